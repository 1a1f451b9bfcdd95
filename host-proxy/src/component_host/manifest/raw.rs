//! The manifest's keys as they are written, and the checks that turn them into an [`App`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use toml::Value;

use super::{App, Capability, Component, Dependency, ManifestError, Provider, Route, Variable};
use crate::component_host::variables;

type Result<T> = std::result::Result<T, ManifestError>;

/// A key that Spin knows and this host does not serve: its presence is the error.
type Unserved = Option<Value>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Manifest {
    spin_manifest_version: i64,
    application: RawApplication,
    #[serde(default)]
    variables: BTreeMap<String, RawVariable>,
    #[serde(default)]
    trigger: BTreeMap<String, Vec<Value>>,
    #[serde(default)]
    component: BTreeMap<String, RawComponent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApplication {
    #[serde(rename = "name")]
    _name: String,
    #[serde(rename = "version")]
    _version: Option<String>,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(rename = "authors", default)]
    _authors: Vec<String>,
    targets: Unserved,
    tool: Unserved,
    trigger: Unserved,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVariable {
    default: Option<String>,
    #[serde(default)]
    required: bool,
    #[serde(rename = "secret", default)]
    _secret: bool,
    #[serde(rename = "description")]
    _description: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttpTrigger {
    #[serde(rename = "id")]
    _id: Option<String>,
    route: Value,
    component: Option<Value>,
    executor: Option<Value>,
    static_response: Unserved,
    dependencies: Unserved,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawComponent {
    source: Value,
    #[serde(rename = "description")]
    _description: Option<String>,
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    key_value_stores: BTreeSet<String>,
    #[serde(default)]
    sqlite_databases: BTreeSet<String>,
    #[serde(default)]
    dependencies: BTreeMap<String, Value>,
    #[serde(default)]
    dependencies_inherit_configuration: bool,
    #[serde(rename = "build")]
    _build: Option<RawBuild>,
    files: Unserved,
    exclude_files: Unserved,
    allowed_http_hosts: Unserved,
    ai_models: Unserved,
    targets: Unserved,
    tool: Unserved,
    profile: Unserved,
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDependency {
    component: Option<String>,
    path: Option<String>,
    export: Option<String>,
    inherit_configuration: Option<Value>,
    version: Unserved,
    registry: Unserved,
    package: Unserved,
    url: Unserved,
    digest: Unserved,
}

impl Manifest {
    pub(super) fn check(self, folder: &Path) -> Result<App> {
        if self.spin_manifest_version != 2 {
            return Err(ManifestError::invalid(
                "spin_manifest_version",
                "only version 2 is served",
            ));
        }
        self.application.check()?;

        let variables = self
            .variables
            .into_iter()
            .map(|(name, variable)| Ok((name.clone(), variable.check(&name)?)))
            .collect::<Result<_>>()?;
        let components: BTreeMap<String, Component> = self
            .component
            .into_iter()
            .map(|(id, component)| Ok((id.clone(), component.check(&id, folder)?)))
            .collect::<Result<_>>()?;

        let mut routes = Vec::new();
        for (kind, triggers) in self.trigger {
            if kind != "http" {
                return Err(ManifestError::NotServed(format!("trigger.{kind}")));
            }
            for (index, trigger) in triggers.into_iter().enumerate() {
                let key = format!("trigger.http[{index}]");
                let trigger: RawHttpTrigger = table(&key, trigger)?;
                routes.extend(trigger.check(&key, &components)?);
            }
        }
        Ok(App { variables, routes, components })
    }
}

impl RawApplication {
    fn check(&self) -> Result<()> {
        refuse("application", &[("targets", &self.targets), ("tool", &self.tool)])?;
        // Spin still accepts the default of its deprecated base path.
        let base = toml::toml! { http = { base = "/" } };
        match &self.trigger {
            Some(trigger) if *trigger != Value::Table(base) => {
                Err(ManifestError::NotServed("application.trigger".into()))
            }
            _ => Ok(()),
        }
    }
}

impl RawVariable {
    fn check(self, name: &str) -> Result<Variable> {
        let key = format!("variables.{name}");
        variables::check_name(name).map_err(|reason| ManifestError::invalid(&key, reason))?;
        match (self.default, self.required) {
            (None, false) => {
                Err(ManifestError::invalid(key, "needs a `default` or `required = true`"))
            }
            (Some(_), true) => {
                Err(ManifestError::invalid(key, "a required variable has no `default`"))
            }
            (default, _) => Ok(Variable { default }),
        }
    }
}

impl RawHttpTrigger {
    fn check(self, key: &str, components: &BTreeMap<String, Component>) -> Result<Option<Route>> {
        refuse(
            key,
            &[("static_response", &self.static_response), ("dependencies", &self.dependencies)],
        )?;
        match self.executor {
            Some(executor) if executor.get("type").and_then(Value::as_str) != Some("http") => {
                return Err(ManifestError::NotServed(format!("{key}.executor")));
            }
            _ => {}
        }
        let component = match self.component {
            Some(Value::String(id)) => id,
            Some(_) => return Err(ManifestError::NotServed(format!("{key}.component (inline)"))),
            None => return Err(ManifestError::invalid(format!("{key}.component"), "is missing")),
        };
        if !components.contains_key(&component) {
            let reason = format!("there is no `[component.{component}]`");
            return Err(ManifestError::invalid(format!("{key}.component"), reason));
        }
        match self.route {
            Value::String(route) => Ok(Some(Route { route, component })),
            Value::Table(route) if route == toml::toml! { private = true } => Ok(None),
            _ => Err(ManifestError::invalid(
                format!("{key}.route"),
                "is neither a path nor `{ private = true }`",
            )),
        }
    }
}

impl RawComponent {
    fn check(self, id: &str, folder: &Path) -> Result<Component> {
        let key = format!("component.{id}");
        refuse(
            &key,
            &[
                ("files", &self.files),
                ("exclude_files", &self.exclude_files),
                ("allowed_http_hosts", &self.allowed_http_hosts),
                ("ai_models", &self.ai_models),
                ("targets", &self.targets),
                ("tool", &self.tool),
                ("profile", &self.profile),
            ],
        )?;
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
        if let Some(label) = self.sqlite_databases.iter().find(|label| *label != "default") {
            return Err(ManifestError::invalid(
                format!("{key}.sqlite_databases"),
                format!("there is no database `{label}`, only `default`"),
            ));
        }
        let inherit_all = self.dependencies_inherit_configuration;
        let dependencies = self
            .dependencies
            .into_iter()
            .map(|(name, value)| dependency(&key, name, value, inherit_all, folder))
            .collect::<Result<_>>()?;
        Ok(Component {
            source: folder.join(source),
            variables: self.variables,
            environment: self.environment,
            allowed_outbound_hosts: self.allowed_outbound_hosts,
            key_value_stores: self.key_value_stores,
            sqlite_databases: self.sqlite_databases,
            dependencies,
        })
    }
}

fn dependency(
    component: &str,
    name: String,
    value: Value,
    inherit_all: bool,
    folder: &Path,
) -> Result<Dependency> {
    let key = format!("{component}.dependencies.\"{name}\"");
    if value.is_str() {
        return Err(ManifestError::NotServed(format!("{key} (from a registry)")));
    }
    let raw: RawDependency = table(&key, value)?;
    refuse(
        &key,
        &[
            ("version", &raw.version),
            ("registry", &raw.registry),
            ("package", &raw.package),
            ("url", &raw.url),
            ("digest", &raw.digest),
        ],
    )?;
    let provider = match (raw.component, raw.path) {
        (Some(id), None) => Provider::Component(id),
        (None, Some(path)) => Provider::Path(folder.join(path)),
        _ => return Err(ManifestError::invalid(key, "needs either `component` or `path`")),
    };
    let inherit = match raw.inherit_configuration {
        Some(_) if inherit_all => {
            return Err(ManifestError::invalid(
                format!("{key}.inherit_configuration"),
                "excludes `dependencies_inherit_configuration = true`",
            ));
        }
        Some(value) => capabilities(&format!("{key}.inherit_configuration"), &value)?,
        None if inherit_all => Capability::ALL.into(),
        None => BTreeSet::new(),
    };
    Ok(Dependency { name, provider, export: raw.export, inherit })
}

fn capabilities(key: &str, value: &Value) -> Result<BTreeSet<Capability>> {
    match value {
        Value::Boolean(true) => Ok(Capability::ALL.into()),
        Value::Boolean(false) => Ok(BTreeSet::new()),
        Value::Array(names) => names
            .iter()
            .map(|name| {
                Capability::ALL
                    .into_iter()
                    .find(|capability| Some(capability.name()) == name.as_str())
                    .ok_or_else(|| {
                        ManifestError::invalid(key, format!("{name} is not a group of grants"))
                    })
            })
            .collect(),
        _ => Err(ManifestError::invalid(key, "is neither a boolean nor a list")),
    }
}

/// Deserializes a nested value, so that an error names its key.
fn table<T: serde::de::DeserializeOwned>(key: &str, value: Value) -> Result<T> {
    value.try_into().map_err(|error: toml::de::Error| ManifestError::invalid(key, error.message()))
}

fn refuse(key: &str, unserved: &[(&str, &Unserved)]) -> Result<()> {
    match unserved.iter().find(|(_, value)| value.is_some()) {
        Some((name, _)) => Err(ManifestError::NotServed(format!("{key}.{name}"))),
        None => Ok(()),
    }
}
