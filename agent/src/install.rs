//! Installs from the artifact store: fetch, verify, unpack aside, and only then put in place.
//!
//! A folder is installed if and only if it has the marker in it. The marker is written last, aside, and the
//! rename that puts the folder in place comes after everything is on disk: so a crash leaves either nothing
//! or all of it, and an installation may be repeated at any time.

mod cache;
mod catalog;
mod download;
mod unpack;

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use zlh_agent_protocol::artifact::Artifact;

use crate::durable;
use crate::layout::remove;

pub(crate) use cache::Cache;
pub(crate) use catalog::{CatalogError, code_server, game, is_name, runtime};
pub(crate) use download::{Store, StoreError};
pub(crate) use unpack::{Limits, UnpackError, unpack};

const MARKER: &str = ".zlh-artifact.json";

/// Something that is unpacked, verified and in place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Installed {
    /// Where it is.
    pub(crate) folder: PathBuf,
    /// Its program.
    pub(crate) program: PathBuf,
}

/// Why nothing was installed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InstallError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    #[error("{path}: {problem}")]
    Archive { path: String, problem: String },
    #[error("cannot {doing}")]
    Io {
        doing: String,
        #[source]
        source: io::Error,
    },
    #[error("interrupted")]
    Interrupted,
}

/// What the marker remembers.
#[derive(Debug, Serialize, Deserialize)]
struct Marker {
    path: String,
    sha256: String,
    program: String,
}

/// Puts artifacts in place.
#[derive(Debug)]
pub(crate) struct Installer {
    /// Where downloads lie until they are verified.
    pub(crate) downloads: PathBuf,
    /// Trees shared with the other agents of this machine.
    pub(crate) cache: Option<Cache>,
    /// Ends an unpacking that nobody waits for any more.
    pub(crate) stopping: CancellationToken,
    /// One unpacking at a time.
    pub(crate) turn: Arc<tokio::sync::Mutex<()>>,
}

/// What is installed in this folder, if anything.
pub(crate) fn installed(folder: &Path) -> Option<Installed> {
    let marker: Marker = serde_json::from_slice(&fs::read(folder.join(MARKER)).ok()?).ok()?;
    let program = folder.join(&marker.program);
    program.is_file().then(|| Installed { folder: folder.to_owned(), program })
}

impl Installer {
    /// Makes `folder` the unpacked artifact. Does nothing if it is installed already.
    ///
    /// Dropping the future stops soon; what is left of it is removed at the next start.
    ///
    /// # Errors
    ///
    /// Nothing is in `folder` then, nor beside it.
    pub(crate) async fn install(
        &self,
        store: &Store,
        artifact: &Artifact,
        folder: &Path,
    ) -> Result<Installed, InstallError> {
        if let Some(installed) = installed(folder) {
            return Ok(installed);
        }
        catalog::check(artifact)?;
        if let Some(cache) = &self.cache {
            let shared =
                cache.entry(&artifact.sha256).await.map_err(io_error("lock the artifact cache"))?;
            if installed(shared.folder()).is_none() {
                self.unpack(store, artifact, shared.folder()).await?;
            }
            if shared.link_to(folder).await.map_err(io_error("link an artifact from the cache"))? {
                return installed(folder).ok_or_else(|| missing_program(artifact));
            }
        }
        self.unpack(store, artifact, folder).await?;
        installed(folder).ok_or_else(|| missing_program(artifact))
    }

    async fn unpack(
        &self,
        store: &Store,
        artifact: &Artifact,
        folder: &Path,
    ) -> Result<(), InstallError> {
        let file = self.downloads.join(&artifact.sha256);
        let downloaded = store.download(artifact, &file).await;
        let unpacked = match downloaded {
            Ok(()) => self.unpack_file(artifact, &file, folder).await,
            Err(error) => Err(error.into()),
        };
        remove(&file).map_err(io_error("remove a download"))?;
        unpacked
    }

    async fn unpack_file(
        &self,
        artifact: &Artifact,
        file: &Path,
        folder: &Path,
    ) -> Result<(), InstallError> {
        let (artifact, file, folder) = (artifact.clone(), file.to_owned(), folder.to_owned());
        // Whoever drops this future lets the next one begin when the disk is at rest.
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let stopping = self.stopping.child_token();
        let _guard = stopping.clone().drop_guard();
        tokio::task::spawn_blocking(move || {
            let _turn = turn;
            let partial = partial(&folder);
            let result = unpack_aside(&artifact, &file, &partial, &stopping).and_then(|()| {
                put_in_place(&partial, &folder).map_err(io_error("put an artifact in place"))
            });
            if result.is_err() {
                remove(&partial).map_err(io_error("remove a half-unpacked artifact"))?;
            }
            result
        })
        .await
        .unwrap_or(Err(InstallError::Interrupted))
    }
}

fn unpack_aside(
    artifact: &Artifact,
    file: &Path,
    partial: &Path,
    stopping: &CancellationToken,
) -> Result<(), InstallError> {
    remove(partial).map_err(io_error("remove a half-unpacked artifact"))?;
    if let Some(shelf) = partial.parent() {
        fs::create_dir_all(shelf).map_err(io_error("make a folder"))?;
    }
    let archive = fs::File::open(file).map_err(io_error("read a download"))?;
    let archive = io::BufReader::with_capacity(1 << 16, archive);
    let limits = Limits { entries: unpack::MAX_ENTRIES, bytes: artifact.unpacked_bytes };
    unpack(archive, partial, limits, &|| stopping.is_cancelled()).map_err(|problem| {
        InstallError::Archive { path: artifact.path.clone(), problem: problem.to_string() }
    })?;
    // The program may be a link, but then one inside the tree.
    if !partial.join(&artifact.program).is_file() {
        return Err(missing_program(artifact));
    }
    let marker = Marker {
        path: artifact.path.clone(),
        sha256: artifact.sha256.clone(),
        program: artifact.program.clone(),
    };
    serde_json::to_vec(&marker)
        .map_err(io::Error::from)
        .and_then(|marker| fs::write(partial.join(MARKER), marker))
        .map_err(io_error("mark an artifact as complete"))
}

/// `folder.partial` beside `folder`, so that the rename stays in one file system.
fn partial(folder: &Path) -> PathBuf {
    let mut name = folder.as_os_str().to_owned();
    name.push(".partial");
    PathBuf::from(name)
}

fn put_in_place(partial: &Path, folder: &Path) -> io::Result<()> {
    // One call for thousands of files; syncing each by itself takes minutes on a disk.
    rustix::fs::syncfs(fs::File::open(partial)?)?;
    remove(folder)?;
    durable::rename(partial, folder)
}

fn missing_program(artifact: &Artifact) -> InstallError {
    InstallError::Archive {
        path: artifact.path.clone(),
        problem: format!("has no program {}", artifact.program),
    }
}

fn io_error(doing: &str) -> impl FnOnce(io::Error) -> InstallError + use<> {
    let doing = doing.to_owned();
    move |source| InstallError::Io { doing, source }
}

/// Whether a relative path stays below where it starts, and goes there without detours.
pub(crate) fn is_plain_relative(path: &Path) -> bool {
    !path.as_os_str().is_empty()
        && path.components().all(|part| matches!(part, Component::Normal(_)))
}

#[cfg(test)]
mod tests;
