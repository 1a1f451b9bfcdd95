//! `[component.<id>]`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use super::{Result, Unserved, dependency, is_words, refuse, tool};
use crate::component_host::manifest::{Component, FileMount, ManifestError};
use crate::component_host::variables;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawComponent {
    source: Value,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    files: Vec<RawFileMount>,
    #[serde(default)]
    exclude_files: Vec<String>,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    key_value_stores: BTreeSet<String>,
    #[serde(default)]
    sqlite_databases: BTreeSet<String>,
    #[serde(default)]
    ai_models: Vec<String>,
    #[serde(default)]
    dependencies: BTreeMap<String, Value>,
    dependencies_inherit_configuration: Option<bool>,
    #[serde(rename = "build")]
    _build: Option<RawBuild>,
    /// As `application.targets`.
    #[serde(rename = "targets")]
    _targets: Option<Vec<Value>>,
    /// Those of other tools are not looked at, as in Spin.
    #[serde(default)]
    tool: BTreeMap<String, Table>,
    /// What `spin up --profile` would change. This host serves the unnamed profile, as `spin up` does.
    #[serde(rename = "profile", default)]
    _profile: BTreeMap<String, RawProfile>,
    allowed_http_hosts: Unserved,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawFileMount {
    Pattern(String),
    Placement(RawPlacement),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPlacement {
    source: String,
    destination: String,
}

/// Read by whoever builds the components; here only its keys are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawBuild {
    #[serde(rename = "command")]
    _command: Value,
    #[serde(rename = "workdir")]
    _workdir: Option<String>,
    #[serde(rename = "watch", default)]
    _watch: Vec<String>,
}

/// Only its keys are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    #[serde(rename = "source")]
    _source: Option<Value>,
    #[serde(rename = "environment", default)]
    _environment: BTreeMap<String, String>,
    #[serde(rename = "dependencies", default)]
    _dependencies: BTreeMap<String, Value>,
    #[serde(rename = "build")]
    _build: Option<RawProfileBuild>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfileBuild {
    #[serde(rename = "command")]
    _command: Value,
}

impl RawComponent {
    pub(super) fn check(mut self, key: &str, folder: &Path) -> Result<Component> {
        refuse(key, &[("allowed_http_hosts", &self.allowed_http_hosts)])?;
        if !self.ai_models.is_empty() {
            return Err(ManifestError::NotServed(format!("{key}.ai_models")));
        }
        let Value::String(source) = self.source else {
            return Err(ManifestError::NotServed(format!(
                "{key}.source (other than a local file)"
            )));
        };
        for name in self.variables.keys() {
            variables::check_name(name).map_err(|reason| {
                ManifestError::invalid(format!("{key}.variables.{name}"), reason)
            })?;
        }
        check_labels(&format!("{key}.key_value_stores"), &self.key_value_stores)?;
        check_labels(&format!("{key}.sqlite_databases"), &self.sqlite_databases)?;
        Ok(Component {
            source: folder.join(source),
            variables: self.variables,
            environment: self.environment,
            files: self.files.into_iter().map(FileMount::from).collect(),
            exclude_files: self.exclude_files,
            allowed_outbound_hosts: self.allowed_outbound_hosts,
            key_value_stores: self.key_value_stores,
            sqlite_databases: self.sqlite_databases,
            dependencies: dependency::check(
                key,
                self.dependencies,
                self.dependencies_inherit_configuration,
                folder,
            )?,
            middleware: Vec::new(),
            limits: tool::limits(key, self.tool.remove(tool::NAME))?,
            copy_of: None,
        })
    }
}

impl From<RawFileMount> for FileMount {
    fn from(raw: RawFileMount) -> Self {
        match raw {
            RawFileMount::Pattern(pattern) => Self::Pattern(pattern),
            RawFileMount::Placement(RawPlacement { source, destination }) => {
                Self::Placement { source, destination }
            }
        }
    }
}

fn check_labels(key: &str, labels: &BTreeSet<String>) -> Result<()> {
    match labels.iter().find(|label| !is_words(label, '-') && !is_words(label, '_')) {
        Some(label) => Err(ManifestError::invalid(
            key,
            format!("`{label}`: expected kebab-case or snake_case"),
        )),
        None => Ok(()),
    }
}
