//! Unpacked artifacts that the agents of one machine share: each is unpacked once and then linked.
//!
//! Everything in the cache is root's and read-only to workloads, so a container cannot change what another
//! one runs. A lock per digest lets one agent unpack while the others wait.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{partial, put_in_place};
use crate::clock::pause;
use crate::layout::remove;

const LOCK_POLL: Duration = Duration::from_millis(100);

/// The shared folder.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
}

/// One digest's place in it, locked.
#[derive(Debug)]
pub(crate) struct CacheEntry {
    folder: PathBuf,
    _lock: File,
}

impl Cache {
    /// None, with a warning, where sharing would not be safe.
    pub(crate) fn open(folder: &Path) -> Option<Self> {
        let refused = |reason: &str| {
            tracing::warn!("artifacts are not shared with other agents: {reason}");
            None
        };
        if !rustix::process::geteuid().is_root() {
            return refused("the agent is not root");
        }
        if let Err(error) = DirBuilder::new().recursive(true).mode(0o755).create(folder) {
            return refused(&error.to_string());
        }
        match fs::symlink_metadata(folder) {
            Ok(metadata)
                if metadata.is_dir() && metadata.uid() == 0 && metadata.mode() & 0o022 == 0 =>
            {
                if let Err(error) = sweep(folder) {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        "what interrupted agents left in the artifact cache stays"
                    );
                }
                Some(Self { folder: folder.to_owned() })
            }
            _ => refused("others than root could change them"),
        }
    }

    /// Waits for the digest's lock. Dropping the future, or what it returns, lets the next agent have it.
    pub(super) async fn entry(&self, sha256: &str) -> io::Result<CacheEntry> {
        let path = self.folder.join(format!("{sha256}.lock"));
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(CacheEntry { folder: self.folder.join(sha256), _lock: lock }),
                Err(TryLockError::WouldBlock) => pause(LOCK_POLL).await,
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}

impl CacheEntry {
    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Makes `folder` the same tree out of links. False where the file system cannot.
    pub(super) async fn link_to(&self, folder: &Path) -> io::Result<bool> {
        let (from, to) = (self.folder.clone(), folder.to_owned());
        tokio::task::spawn_blocking(move || {
            let partial = partial(&to);
            remove(&partial)?;
            if let Some(shelf) = partial.parent() {
                fs::create_dir_all(shelf)?;
            }
            match link_tree(&from, &partial).and_then(|()| put_in_place(&partial, &to)) {
                Ok(()) => Ok(true),
                Err(error) => {
                    remove(&partial)?;
                    let impossible = matches!(
                        error.kind(),
                        io::ErrorKind::CrossesDevices | io::ErrorKind::TooManyLinks
                    );
                    if impossible { Ok(false) } else { Err(error) }
                }
            }
        })
        .await
        .map_err(io::Error::other)?
    }
}

/// Removes what agents had half unpacked when they were killed. Where a lock is held, one is unpacking.
fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none_or(|extension| extension != "partial") {
            continue;
        }
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path.with_extension("lock"))?;
        match lock.try_lock() {
            Ok(()) => remove(&path)?,
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(())
}

fn link_tree(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o755).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            link_tree(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::hard_link(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_agent_left_is_removed_and_what_another_unpacks_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["dead.partial/bin", "alive.partial/bin", "whole/bin"] {
            fs::create_dir_all(path(name)).unwrap();
        }
        let unpacking = File::create(path("alive.lock")).unwrap();
        unpacking.lock().unwrap();

        sweep(folder.path()).unwrap();

        let left = ["dead.partial", "alive.partial", "whole"].map(|name| path(name).exists());
        assert_eq!(left, [false, true, true]);
    }
}
