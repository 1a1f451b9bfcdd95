//! Reads `spin.toml`, manifest version 2, and refuses what this host does not serve.
//!
//! The file is parsed twice over: [`raw`] mirrors its keys, and [`App`] is what is left once every value
//! has been checked. A key that Spin knows and this host does not is an error, never silently ignored.

mod raw;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use thiserror::Error;

use super::limits::ComponentLimits;

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
    pub(crate) name: String,
    /// Empty if there is none.
    pub(crate) version: String,
    pub(crate) variables: BTreeMap<String, Variable>,
    /// In the order of the file.
    pub(crate) routes: Vec<Route>,
    /// By id; besides the stanzas, those that are written in a trigger, and copies of those that several
    /// triggers wrap differently.
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
    /// `None` if it is private: only other components reach it.
    pub(crate) route: Option<String>,
    pub(crate) target: Target,
}

/// What answers on a route.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Component(String),
    Static(StaticResponse),
}

/// A response that is written in the manifest.
#[derive(Debug, Clone)]
pub(crate) struct StaticResponse {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// One `[component.<id>]`.
#[derive(Debug, Clone)]
pub(crate) struct Component {
    pub(crate) source: PathBuf,
    /// Templates.
    pub(crate) variables: BTreeMap<String, String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) files: Vec<FileMount>,
    /// Patterns of what `files` leaves out.
    pub(crate) exclude_files: Vec<String>,
    /// Templates.
    pub(crate) allowed_outbound_hosts: Vec<String>,
    pub(crate) key_value_stores: BTreeSet<String>,
    pub(crate) sqlite_databases: BTreeSet<String>,
    pub(crate) dependencies: Vec<Dependency>,
    /// What its trigger puts around it, outermost first.
    pub(crate) middleware: Vec<Middleware>,
    pub(crate) limits: ComponentLimits,
    /// The stanza, if this is a copy of one that several triggers wrap differently.
    pub(crate) copy_of: Option<String>,
}

/// One entry of `files`; paths are relative to the manifest's folder.
#[derive(Debug, Clone)]
pub(crate) enum FileMount {
    /// A file, a folder or a glob, found under the same path by the guest.
    Pattern(String),
    /// A file or a folder, found elsewhere by the guest.
    Placement { source: String, destination: String },
}

/// What satisfies some of a component's imports.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    /// `ns:package@version`, `ns:package/interface@version`, or a plain name.
    pub(crate) name: String,
    pub(crate) provider: Provider,
    /// Export of the provider to use, where its name differs from the import's.
    pub(crate) export: Option<String>,
    pub(crate) inherit: BTreeSet<Capability>,
}

/// What handles a request before a component does.
#[derive(Debug, Clone)]
pub(crate) struct Middleware {
    pub(crate) provider: Provider,
    pub(crate) inherit: BTreeSet<Capability>,
}

/// Where a dependency's code comes from.
#[derive(Debug, Clone)]
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
