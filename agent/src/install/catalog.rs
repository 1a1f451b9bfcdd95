//! What the artifact store offers, and whether that can be what it says.

use std::path::Path;

use zlh_agent_protocol::artifact::{Artifact, CODE_SERVER_ADDON, DevCatalog};
use zlh_agent_protocol::config::GameConfig;
use zlh_agent_protocol::game::{GameCatalog, GameVersion};

use super::is_plain_relative;

/// The catalogue does not have it, or describes it in a way that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CatalogError {
    #[error("the catalogue has no runtime `{0}`")]
    UnknownRuntime(String),
    #[error("the catalogue has no version `{version}` of runtime `{runtime}`; it has {known}")]
    UnknownVersion { runtime: String, version: String, known: String },
    #[error("the catalogue has no game `{game}` in variant `{variant}` and version `{version}`")]
    UnknownGame { game: String, variant: String, version: String },
    #[error("the catalogue has no add-on `{CODE_SERVER_ADDON}`")]
    NoCodeServer,
    #[error("the catalogue's {field} of `{path}` is not valid")]
    Invalid { path: String, field: &'static str },
}

/// The artifact of a runtime's version.
pub(crate) fn runtime<'a>(
    catalog: &'a DevCatalog,
    runtime: &str,
    version: &str,
) -> Result<&'a Artifact, CatalogError> {
    let package = catalog
        .runtimes
        .iter()
        .find(|package| package.id == runtime)
        .ok_or_else(|| CatalogError::UnknownRuntime(runtime.to_owned()))?;
    package.version(version).ok_or_else(|| CatalogError::UnknownVersion {
        runtime: runtime.to_owned(),
        version: version.to_owned(),
        known: package
            .versions
            .iter()
            .map(|known| known.version.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    })
}

/// The version of a game.
pub(crate) fn game<'a>(
    catalog: &'a GameCatalog,
    config: &GameConfig,
) -> Result<&'a GameVersion, CatalogError> {
    catalog.version(&config.game, &config.variant, &config.version).ok_or_else(|| {
        CatalogError::UnknownGame {
            game: config.game.clone(),
            variant: config.variant.clone(),
            version: config.version.clone(),
        }
    })
}

/// The newest code-server.
pub(crate) fn code_server(catalog: &DevCatalog) -> Result<&Artifact, CatalogError> {
    let artifact = catalog.addon(CODE_SERVER_ADDON).ok_or(CatalogError::NoCodeServer)?;
    if is_name(&artifact.version) { Ok(artifact) } else { Err(invalid(artifact, "version")) }
}

/// Refuses what would lead out of the store or out of the folder.
pub(crate) fn check(artifact: &Artifact) -> Result<(), CatalogError> {
    let is_hash = artifact.sha256.len() == 64
        && artifact.sha256.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let plain_url =
        artifact.path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._+-".contains(&byte));
    if !is_hash {
        Err(invalid(artifact, "sha256"))
    } else if !plain_url || !is_plain_relative(Path::new(&artifact.path)) {
        Err(invalid(artifact, "path"))
    } else if !is_plain_relative(Path::new(&artifact.program)) {
        Err(invalid(artifact, "program"))
    } else {
        Ok(())
    }
}

/// Whether this may name a folder: no separators, not hidden, not `.partial`.
pub(crate) fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
        && !text.ends_with(".partial")
}

fn invalid(artifact: &Artifact, field: &'static str) -> CatalogError {
    CatalogError::Invalid { path: artifact.path.clone(), field }
}
