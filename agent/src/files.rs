//! Access to one folder of the container and never above it: no link is followed out, nothing that is not a
//! regular file is opened, and what is being made is not seen before it is whole.
//!
//! Everything here waits for the disk; [`routes`] keeps it off the threads that serve requests. What is under way
//! lies in the agent's own folder, where the workload, which may change anything in its own at any moment, cannot
//! get at it.

mod archive;
mod download;
mod error;
mod extract;
mod look;
mod path;
mod policy;
pub(crate) mod routes;
mod stage;
mod tree;
mod upload;
mod write;

use std::io;
use std::path::Path;

use cap_fs_ext::DirExt as _;
use cap_std::ambient_authority;
use cap_std::fs::{Dir, File, MetadataExt as _, OpenOptions, OpenOptionsExt as _};
use rustix::fs::OFlags;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;
use zlh_ids::ContainerType;

use crate::config::Ids;
use crate::layout::Layout;

pub(crate) use error::FileError;
use path::RelativePath;
use policy::{Act, Policy};
use stage::Stage;
pub(crate) use stage::remove_leftovers;

/// Entries that one copy, archive or extraction may have.
const MAX_ENTRIES: usize = 100_000;
/// Folders inside folders that one copy or archive goes down.
const MAX_DEPTH: usize = 128;

/// The files of one container.
pub(crate) struct Files {
    root: Dir,
    policy: Policy,
    stage: Stage,
    stopping: CancellationToken,
    now: OffsetDateTime,
}

impl Files {
    pub(crate) fn open(
        layout: &Layout,
        ctype: ContainerType,
        stopping: CancellationToken,
        now: OffsetDateTime,
    ) -> Result<Self, FileError> {
        let (below, policy) = match ctype {
            ContainerType::Dev => (["home", "dev", "workspace"].as_slice(), Policy::Workspace),
            ContainerType::Game => return Err(FileError::NotFound),
        };
        let root = open_root(layout.root(), below).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                FileError::Conflict("the container is not provisioned yet".to_owned())
            }
            _ => error.into(),
        })?;
        let metadata = root.dir_metadata()?;
        let owner = Ids { uid: metadata.uid(), gid: metadata.gid() };
        let switch = rustix::process::geteuid().as_raw() != owner.uid;
        let stage = Stage::open(layout.files(), switch.then_some(owner))?;
        Ok(Self { root, policy, stage, stopping, now })
    }

    fn check(&self, act: Act, path: &RelativePath) -> Result<(), FileError> {
        self.policy.check(act, path)
    }

    /// A regular file for reading; a pipe without a writer does not make this wait.
    fn open_file(&self, path: &RelativePath) -> Result<(File, u64), FileError> {
        self.open_in(&self.root, path.as_path())
    }

    fn open_in(&self, dir: &Dir, name: &Path) -> Result<(File, u64), FileError> {
        let mut options = OpenOptions::new();
        let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
        let file = dir.open_with(name, options.read(true).custom_flags(flags))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(FileError::Refused("it is not a regular file".to_owned()));
        }
        Ok((file, metadata.len()))
    }

    /// The folder that a path is in, and its name there.
    fn parent<'a>(&self, path: &'a RelativePath) -> Result<(Dir, &'a str), FileError> {
        let (folder, name) = path.split();
        Ok((self.root.open_dir(folder.as_path())?, name))
    }

    fn interrupted(&self) -> Result<(), FileError> {
        if self.stopping.is_cancelled() { Err(FileError::Interrupted) } else { Ok(()) }
    }
}

/// Folders on the way may be the workload's, which could put a link in their place.
fn open_root(root: &Path, below: &[&str]) -> io::Result<Dir> {
    let outer = Dir::open_ambient_dir(root, ambient_authority())?;
    below.iter().try_fold(outer, |folder, name| folder.open_dir_nofollow(name))
}

#[cfg(test)]
mod tests;
