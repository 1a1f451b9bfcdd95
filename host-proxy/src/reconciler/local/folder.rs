//! One container's folder.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zlh_ids::InstanceId;

use crate::data_dir::{DataDirError, write_atomically};

#[derive(Debug, Clone)]
pub(super) struct Folder(PathBuf);

impl Folder {
    pub(super) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(super) fn root(&self) -> PathBuf {
        self.0.join("root")
    }

    pub(super) fn token_file(&self) -> PathBuf {
        self.0.join("agent-token")
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.0.join("agent.log")
    }

    pub(super) fn ide_socket(&self) -> PathBuf {
        self.root().join("run/ide/code-server.sock")
    }

    /// Held by the agent for as long as it lives.
    pub(super) fn agent_lock(&self) -> PathBuf {
        self.root().join("var/lib/zlh-agent/agent.lock")
    }

    pub(super) async fn exists(&self) -> bool {
        tokio::fs::symlink_metadata(&self.0).await.is_ok()
    }

    /// Which life it is; none when it is not there or was left half made.
    pub(super) async fn instance(&self) -> io::Result<Option<InstanceId>> {
        match tokio::fs::read_to_string(self.0.join("instance")).await {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// How often it was begun anew.
    pub(super) async fn boots(&self) -> io::Result<u32> {
        match tokio::fs::read_to_string(self.0.join("boots")).await {
            // What cannot be read has it begun anew, which writes it again.
            Ok(text) => Ok(text.trim().parse().unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn set_boots(&self, boots: u32) -> io::Result<()> {
        let folder = self.clone();
        blocking(move || write(&folder.0.join("boots"), &boots.to_string())).await
    }

    pub(super) async fn create(&self, instance: InstanceId, token: String) -> io::Result<()> {
        let folder = self.clone();
        blocking(move || {
            make(&folder.0, 0o711)?;
            make(&folder.root(), 0o755)?;
            write(&folder.token_file(), &token)?;
            write(&folder.0.join("instance"), &instance.to_string())
        })
        .await
    }

    pub(super) async fn remove(&self) -> io::Result<()> {
        let path = self.0.clone();
        blocking(move || {
            // The mark of a whole container goes first, so that half a removal is not taken for one.
            absent_is_fine(fs::remove_file(path.join("instance")))?;
            absent_is_fine(fs::remove_dir_all(&path))
        })
        .await
    }

    pub(super) async fn set_aside(&self, aside: &Path, name: &str) -> io::Result<()> {
        let (from, aside, name) = (self.0.clone(), aside.to_owned(), name.to_owned());
        blocking(move || {
            make(&aside, 0o700)?;
            fs::rename(from, aside.join(name))
        })
        .await
    }
}

/// Makes a folder, or sets the mode of one that is there.
pub(super) fn make(path: &Path, mode: u32) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o755).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn write(path: &Path, content: &str) -> io::Result<()> {
    write_atomically(path, content.as_bytes(), 0o600).map_err(|error| match error {
        DataDirError::Io { source, .. } => source,
        other => io::Error::other(other),
    })
}

fn absent_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
