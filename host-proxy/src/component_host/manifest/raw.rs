//! The manifest's keys as they are written, and the checks that turn them into an [`App`].

mod component;
mod dependency;
mod tool;
mod trigger;

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use toml::{Table, Value};

use self::component::RawComponent;
use self::trigger::Triggers;
use super::{App, Component, ManifestError, Variable};
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
    trigger: BTreeMap<String, Vec<Table>>,
    #[serde(default)]
    component: BTreeMap<String, RawComponent>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawApplication {
    name: String,
    #[serde(default)]
    version: String,
    #[serde(rename = "description", default)]
    _description: String,
    #[serde(rename = "authors", default)]
    _authors: Vec<String>,
    /// What `spin build` checks components against; of no effect when they run.
    #[serde(rename = "targets", default)]
    _targets: Vec<Value>,
    /// For others: Spin ignores it, and so does this host, whose own settings are each component's.
    #[serde(default)]
    tool: BTreeMap<String, Table>,
    #[serde(default)]
    trigger: BTreeMap<String, Table>,
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
            .map(|(id, component)| {
                let key = format!("component.{id}");
                check_id(&key, &id)?;
                Ok((id, component.check(&key, folder)?))
            })
            .collect::<Result<_>>()?;

        let mut triggers = Triggers::new(components, folder);
        for (kind, tables) in self.trigger {
            if kind != "http" {
                return Err(ManifestError::NotServed(format!("trigger.{kind}")));
            }
            triggers.check(tables)?;
        }
        let (routes, components) = triggers.finish();
        dependency::check_providers(&components)?;
        Ok(App {
            name: self.application.name,
            version: self.application.version,
            variables,
            routes,
            components,
        })
    }
}

impl RawApplication {
    fn check(&self) -> Result<()> {
        if self.tool.contains_key(tool::NAME) {
            return Err(ManifestError::invalid(
                format!("application.tool.{}", tool::NAME),
                format!("limits are each component's: `[component.<id>.tool.{}]`", tool::NAME),
            ));
        }
        for (kind, settings) in &self.trigger {
            let key = format!("application.trigger.{kind}");
            if kind != "http" {
                return Err(ManifestError::NotServed(key));
            }
            for (name, value) in settings {
                match (name.as_str(), value.as_str()) {
                    // Spin still accepts the default of its deprecated base path.
                    ("base", Some("/")) => {}
                    ("base", _) => {
                        return Err(ManifestError::invalid(
                            format!("{key}.base"),
                            "the base path is no longer supported; write it in each route",
                        ));
                    }
                    _ => return Err(ManifestError::Syntax(unknown(&key, name))),
                }
            }
        }
        Ok(())
    }
}

impl RawVariable {
    fn check(self, name: &str) -> Result<Variable> {
        let key = format!("variables.{name}");
        variables::check_name(name).map_err(|reason| ManifestError::invalid(&key, reason))?;
        if self.required == self.default.is_some() {
            return Err(ManifestError::invalid(key, "must be `required` OR have a `default`"));
        }
        Ok(Variable { default: self.default })
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

fn unknown(key: &str, name: &str) -> String {
    format!("unknown field `{name}` in `{key}`")
}

/// Checks that an id is words joined by `-`, as Spin wants it.
fn check_id(key: &str, id: &str) -> Result<()> {
    if is_words(id, '-') {
        Ok(())
    } else {
        Err(ManifestError::invalid(key, "an id is words of letters and digits, joined by `-`"))
    }
}

/// Whether a text is words, each a letter and then letters or digits of one case, with `separator` between
/// them.
fn is_words(text: &str, separator: char) -> bool {
    text.split(separator).all(|word| {
        let lower = word.starts_with(|c: char| c.is_ascii_lowercase());
        let upper = word.starts_with(|c: char| c.is_ascii_uppercase());
        let fits = |c: char| {
            c.is_ascii_digit()
                || (lower && c.is_ascii_lowercase())
                || (upper && c.is_ascii_uppercase())
        };
        (lower || upper) && word.chars().all(fits)
    })
}
