//! The artifact store: an HTTP tree of tarballs, described by two catalogues.

use serde::{Deserialize, Serialize};

/// Where dev runtimes and add-ons are listed, below the store's root.
pub const DEV_CATALOG_PATH: &str = "/devcontainer/_catalog.json";
/// Where games are listed, below the store's root.
pub const GAME_CATALOG_PATH: &str = "/_catalog.json";
/// The add-on that is the browser IDE.
pub const CODE_SERVER_ADDON: &str = "codeserver";

/// `devcontainer/_catalog.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevCatalog {
    /// Languages a dev container can have.
    pub runtimes: Vec<Package>,
    /// What can be put beside them, such as code-server.
    #[serde(default)]
    pub addons: Vec<Package>,
}

/// One thing that can be installed, in several versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Its name: lower-case letters, digits and `-`.
    pub id: String,
    /// Newest first.
    pub versions: Vec<Artifact>,
}

/// One version: a `.tar.gz` whose entries lie below the directory it is unpacked to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Artifact {
    /// What customers choose, such as `24`.
    pub version: String,
    /// Path below the store's root, such as `devcontainer/node-24.21.0.tar.gz`.
    pub path: String,
    /// SHA-256 of the file, 64 lower-case hex digits.
    pub sha256: String,
    /// Size of the file in bytes.
    pub size_bytes: u64,
    /// Size of everything in it once unpacked, in bytes; the cap while unpacking.
    pub unpacked_bytes: u64,
    /// Program whose presence proves the installation, relative to where it is unpacked, such as `bin/node`.
    pub program: String,
}

impl Package {
    /// The version of that name.
    #[must_use]
    pub fn version(&self, version: &str) -> Option<&Artifact> {
        self.versions.iter().find(|artifact| artifact.version == version)
    }
}

impl DevCatalog {
    /// The artifact of a runtime.
    #[must_use]
    pub fn runtime(&self, id: &str, version: &str) -> Option<&Artifact> {
        self.runtimes.iter().find(|package| package.id == id)?.version(version)
    }

    /// The newest version of an add-on.
    #[must_use]
    pub fn addon(&self, id: &str) -> Option<&Artifact> {
        self.addons.iter().find(|package| package.id == id)?.versions.first()
    }
}
