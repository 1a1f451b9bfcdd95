//! What is composed with a component: `[component.<id>.dependencies]` and a trigger's middleware.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;
use toml::Value;

use super::{Result, Unserved, refuse, table};
use crate::component_host::manifest::{
    Capability, Component, Dependency, ManifestError, Middleware, Provider,
};

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

impl RawDependency {
    fn parse(key: &str, value: Value) -> Result<Self> {
        if value.is_str() {
            return Err(ManifestError::NotServed(format!("{key} (from a registry)")));
        }
        let raw: Self = table(key, value)?;
        refuse(
            key,
            &[
                ("version", &raw.version),
                ("registry", &raw.registry),
                ("package", &raw.package),
                ("url", &raw.url),
                ("digest", &raw.digest),
            ],
        )?;
        Ok(raw)
    }

    fn provider(&self, key: &str, folder: &Path) -> Result<Provider> {
        match (&self.component, &self.path) {
            (Some(id), None) => Ok(Provider::Component(id.clone())),
            (None, Some(path)) => Ok(Provider::Path(folder.join(path))),
            _ => Err(ManifestError::invalid(key, "needs either `component` or `path`")),
        }
    }

    fn inherit(&self, key: &str) -> Result<BTreeSet<Capability>> {
        let Some(value) = &self.inherit_configuration else { return Ok(BTreeSet::new()) };
        capabilities(&format!("{key}.inherit_configuration"), value)
    }
}

/// The dependencies of the component whose stanza is `component`.
pub(super) fn check(
    component: &str,
    dependencies: BTreeMap<String, Value>,
    inherit_all: Option<bool>,
    folder: &Path,
) -> Result<Vec<Dependency>> {
    let mut checked: Vec<Dependency> = Vec::new();
    for (name, value) in dependencies {
        let key = format!("{component}.dependencies.\"{name}\"");
        let raw = RawDependency::parse(&key, value)?;
        if inherit_all.is_some() && raw.inherit_configuration.is_some() {
            return Err(ManifestError::invalid(
                format!("{key}.inherit_configuration"),
                "`dependencies_inherit_configuration` and per-dependency `inherit_configuration` are \
                 mutually exclusive; use one or the other",
            ));
        }
        if raw.export.is_some() && raw.path.is_some() && name.contains(':') && !name.contains('/') {
            return Err(ManifestError::invalid(
                format!("{key}.export"),
                "using an export to satisfy a package dependency is not currently permitted",
            ));
        }
        if let Some(other) = checked.iter().find(|other| overlap(&other.name, &name)) {
            return Err(ManifestError::invalid(key, format!("conflicts with `{}`", other.name)));
        }
        let inherit = match inherit_all {
            Some(true) => Capability::ALL.into(),
            _ => raw.inherit(&key)?,
        };
        let provider = raw.provider(&key, folder)?;
        checked.push(Dependency { name, provider, export: raw.export, inherit });
    }
    Ok(checked)
}

/// One entry of a trigger's `dependencies.middleware`.
pub(super) fn middleware(key: &str, value: Value, folder: &Path) -> Result<Middleware> {
    let raw = RawDependency::parse(key, value)?;
    if raw.export.is_some() {
        return Err(ManifestError::Syntax(super::unknown(key, "export")));
    }
    Ok(Middleware { provider: raw.provider(key, folder)?, inherit: raw.inherit(key)? })
}

/// Checks that stanzas used by others exist and grant nothing: a composed component runs with the grants
/// of its main stanza, and ignoring its own would surprise.
pub(super) fn check_providers(components: &BTreeMap<String, Component>) -> Result<()> {
    for (id, component) in components {
        let dependencies = component.dependencies.iter().map(|d| (d.name.as_str(), &d.provider));
        let middleware = component.middleware.iter().map(|m| ("middleware", &m.provider));
        for (name, provider) in dependencies.chain(middleware) {
            let Provider::Component(used) = provider else { continue };
            let key = format!("component.{id}.dependencies.\"{name}\"");
            let Some(provider) = components.get(used) else {
                let reason = format!("dependency ID {used} does not exist");
                return Err(ManifestError::invalid(key, reason));
            };
            let grants = grants(provider);
            if !grants.is_empty() {
                return Err(ManifestError::invalid(
                    key,
                    format!(
                        "Dependencies may not have their own resources or permissions. Component \
                         {used} cannot be used as a dependency of {id} because it specifies: {}",
                        grants.join(", ")
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn grants(component: &Component) -> Vec<&'static str> {
    let given = [
        ("allowed_outbound_hosts", component.allowed_outbound_hosts.is_empty()),
        ("dependencies", component.dependencies.is_empty()),
        ("environment", component.environment.is_empty()),
        ("files", component.files.is_empty()),
        ("key_value_stores", component.key_value_stores.is_empty()),
        ("sqlite_databases", component.sqlite_databases.is_empty()),
        ("variables", component.variables.is_empty()),
    ];
    given.into_iter().filter(|(_, none)| !none).map(|(name, _)| name).collect()
}

/// Whether two keys may name the same import: they are of one package, whose versions are not known to be
/// incompatible, and not of two interfaces of it.
fn overlap(one: &str, other: &str) -> bool {
    let parts = |name: &str| {
        let (path, version) = match name.split_once('@') {
            Some((path, version)) => (path, Some(compatible(version))),
            None => (name, None),
        };
        match path.split_once('/') {
            Some((package, interface)) => (package.to_owned(), Some(interface.to_owned()), version),
            None => (path.to_owned(), None, version),
        }
    };
    let differ =
        |a: Option<String>, b: Option<String>| matches!((a, b), (Some(a), Some(b)) if a != b);
    let ((package, interface, version), (other_package, other_interface, other_version)) =
        (parts(one), parts(other));
    package == other_package
        && !differ(interface, other_interface)
        && !differ(version, other_version)
}

/// The part of a version that must be equal for two to be compatible.
fn compatible(version: &str) -> String {
    let release = version.split_once('+').map_or(version, |(release, _)| release);
    if release.contains('-') {
        return release.to_owned();
    }
    let parts: Vec<&str> = release.splitn(3, '.').collect();
    match parts.as_slice() {
        ["0", "0", ..] => release.to_owned(),
        ["0", minor, ..] => format!("0.{minor}"),
        [major, ..] => (*major).to_owned(),
        [] => String::new(),
    }
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
