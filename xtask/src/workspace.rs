//! What the workspace consists of: its packages and the components that spin.toml names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::Deserialize;

use crate::shell;

/// The repository.
pub(crate) struct Workspace {
    /// Its top folder.
    pub(crate) root: PathBuf,
    /// Where cargo puts what it builds.
    pub(crate) target: PathBuf,
    /// Its packages, by name.
    pub(crate) packages: BTreeMap<String, Package>,
}

/// One package of the workspace.
#[derive(Deserialize)]
pub(crate) struct Package {
    name: String,
    manifest_path: PathBuf,
    /// Everything it depends on, in every section.
    pub(crate) dependencies: Vec<Dependency>,
}

/// One line of a dependency section.
#[derive(Deserialize)]
pub(crate) struct Dependency {
    /// Package name.
    pub(crate) name: String,
    /// Where a dependency of the workspace itself lies.
    pub(crate) path: Option<PathBuf>,
    /// `dev`, `build`, or none.
    pub(crate) kind: Option<String>,
}

/// What is of interest in spin.toml.
#[derive(Deserialize)]
pub(crate) struct Manifest {
    /// By component id.
    #[serde(default)]
    pub(crate) component: BTreeMap<String, Component>,
}

/// One component stanza.
#[derive(Deserialize)]
pub(crate) struct Component {
    /// The file that is run; a table when it is not of this workspace.
    pub(crate) source: toml::Value,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

impl Workspace {
    /// Asks cargo.
    ///
    /// # Errors
    /// When cargo does not answer.
    pub(crate) fn find() -> anyhow::Result<Self> {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.toml");
        let text = shell::output(
            shell::cargo()
                .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
                .arg(manifest),
        )?;
        let metadata: Metadata =
            serde_json::from_str(&text).context("could not read what cargo metadata says")?;
        let packages =
            metadata.packages.into_iter().map(|package| (package.name.clone(), package)).collect();
        Ok(Self { root: metadata.workspace_root, target: metadata.target_directory, packages })
    }

    /// Reads spin.toml.
    ///
    /// # Errors
    /// When it is missing or is not a manifest.
    pub(crate) fn manifest(&self) -> anyhow::Result<Manifest> {
        let text =
            fs::read_to_string(self.root.join("spin.toml")).context("could not read spin.toml")?;
        toml::from_str(&text).context("spin.toml is not a manifest")
    }

    /// Components that spin.toml names and that are packages of this workspace.
    ///
    /// # Errors
    /// Those of [`Workspace::manifest`].
    pub(crate) fn components(&self) -> anyhow::Result<Vec<String>> {
        let manifest = self.manifest()?;
        Ok(manifest.component.into_keys().filter(|id| self.packages.contains_key(id)).collect())
    }

    /// Names of the packages below one folder of the repository.
    pub(crate) fn packages_in(&self, folder: &str) -> Vec<String> {
        let folder = self.root.join(folder);
        self.packages
            .iter()
            .filter(|(_, package)| package.folder().is_some_and(|path| path.starts_with(&folder)))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

impl Package {
    /// Its folder.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.manifest_path.parent()
    }
}
