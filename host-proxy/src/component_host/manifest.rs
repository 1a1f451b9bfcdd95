//! Reads `spin.toml`, manifest version 2, and refuses what this host does not serve.
//!
//! The file is parsed twice over: [`raw`] mirrors its keys, and [`App`] is what is left once every value
//! has been checked. A key that Spin knows and this host does not is an error, never silently ignored.

mod raw;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Why a manifest cannot be served. Every message names the key.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Not TOML, or a key is missing, unknown or of the wrong type.
    #[error("{0}")]
    Syntax(String),
    /// A feature of Spin that this host does not have.
    #[error("`{0}` is not served by this host")]
    NotServed(String),
    /// The key is known and its value makes no sense.
    #[error("`{key}`: {reason}")]
    Invalid {
        /// Path of the key, dotted.
        key: String,
        /// What is wrong with its value.
        reason: String,
    },
}

impl ManifestError {
    pub(crate) fn invalid(key: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Invalid { key: key.into(), reason: reason.into() }
    }
}

/// A checked manifest.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) variables: BTreeMap<String, Variable>,
    /// In the order of the file; routes marked private are left out, since only Spin's service chaining
    /// reaches them.
    pub(crate) routes: Vec<Route>,
    pub(crate) components: BTreeMap<String, Component>,
}

/// A declared variable.
#[derive(Debug)]
pub(crate) struct Variable {
    /// `None` when it is required.
    pub(crate) default: Option<String>,
}

/// One `[[trigger.http]]`.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    pub(crate) route: String,
    pub(crate) component: String,
}

/// One `[component.<id>]`.
#[derive(Debug)]
pub(crate) struct Component {
    pub(crate) source: PathBuf,
    /// Templates.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) environment: BTreeMap<String, String>,
    /// Templates.
    pub(crate) allowed_outbound_hosts: Vec<String>,
    pub(crate) key_value_stores: BTreeSet<String>,
    pub(crate) sqlite_databases: BTreeSet<String>,
    pub(crate) dependencies: Vec<Dependency>,
}

/// What satisfies some of a component's imports.
#[derive(Debug)]
pub(crate) struct Dependency {
    /// `ns:package@version`, `ns:package/interface@version`, or a plain name.
    pub(crate) name: String,
    pub(crate) provider: Provider,
    /// Export of the provider to use, where its name differs from the import's.
    pub(crate) export: Option<String>,
    pub(crate) inherit: BTreeSet<Capability>,
}

/// Where a dependency's code comes from.
#[derive(Debug)]
pub(crate) enum Provider {
    /// Another stanza of the manifest.
    Component(String),
    /// A file.
    Path(PathBuf),
}

/// A group of grants that a dependency may inherit; the names are Spin's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Capability {
    AiModels,
    AllowedOutboundHosts,
    Environment,
    Files,
    KeyValueStores,
    SqliteDatabases,
    Variables,
}

impl Capability {
    pub(crate) const ALL: [Self; 7] = [
        Self::AiModels,
        Self::AllowedOutboundHosts,
        Self::Environment,
        Self::Files,
        Self::KeyValueStores,
        Self::SqliteDatabases,
        Self::Variables,
    ];

    /// As written in `inherit_configuration`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AiModels => "ai_models",
            Self::AllowedOutboundHosts => "allowed_outbound_hosts",
            Self::Environment => "environment",
            Self::Files => "files",
            Self::KeyValueStores => "key_value_stores",
            Self::SqliteDatabases => "sqlite_databases",
            Self::Variables => "variables",
        }
    }
}

impl App {
    /// Parses and checks a manifest; relative paths in it start at `folder`.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self, ManifestError> {
        let manifest: raw::Manifest =
            toml::from_str(text).map_err(|error| ManifestError::Syntax(error.to_string()))?;
        manifest.check(folder)
    }
}

#[cfg(test)]
mod tests;
