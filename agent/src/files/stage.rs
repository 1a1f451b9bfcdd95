//! What is being made, and what is remembered of files: in the agent's own folder.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, lchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use rustix::fs::{RenameFlags, renameat_with};
use sha2::{Digest as _, Sha256};

use super::FileError;
use super::path::RelativePath;
use crate::config::Ids;
use crate::layout::remove;

/// Left free for the workload.
const RESERVE_BYTES: u64 = 64 << 20;
/// What is made under this name is gone at the agent's next start.
const MAKING: &str = "making-";

pub(super) struct Stage {
    folder: PathBuf,
    /// Whose the container's files are; none where the agent is that user itself.
    owner: Option<Ids>,
}

/// Something being made; removed unless it is put in place.
pub(super) struct Draft {
    pub(super) path: PathBuf,
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.path) {
            tracing::warn!(error = &error as &dyn std::error::Error, "a draft stays behind");
        }
    }
}

/// What is remembered of one file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Note {
    /// What it was before its first change.
    Shadow,
    /// That it was uploaded.
    Uploaded,
    /// As much of an upload as there is.
    Part,
}

impl Stage {
    pub(super) fn open(folder: PathBuf, owner: Option<Ids>) -> io::Result<Self> {
        for note in [Note::Shadow, Note::Uploaded, Note::Part] {
            DirBuilder::new().recursive(true).mode(0o700).create(folder.join(note.folder()))?;
        }
        Ok(Self { folder, owner })
    }

    pub(super) fn draft(&self) -> Draft {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Draft { path: self.folder.join(format!("{MAKING}{number}")) }
    }

    /// Where a note is or would be.
    pub(super) fn note(&self, note: Note, path: &RelativePath) -> PathBuf {
        let name = format!("{:x}", Sha256::digest(path.as_str()));
        self.folder.join(note.folder()).join(name)
    }

    pub(super) fn notes(&self, note: Note) -> PathBuf {
        self.folder.join(note.folder())
    }

    /// Forgets what was known of a file that is gone or another one now.
    pub(super) fn forget(&self, path: &RelativePath) -> io::Result<()> {
        remove(&self.note(Note::Shadow, path))?;
        remove(&self.note(Note::Uploaded, path))
    }

    /// Whether so many bytes fit on the disk.
    pub(super) fn make_room(&self, bytes: u64) -> Result<(), FileError> {
        if bytes > self.free()? { Err(FileError::Full) } else { Ok(()) }
    }

    /// Bytes that may be written.
    pub(super) fn free(&self) -> Result<u64, FileError> {
        let disk = rustix::fs::statvfs(&self.folder)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize).saturating_sub(RESERVE_BYTES))
    }

    /// Has all that was made on the disk: one call for thousands of files.
    pub(super) fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(&self.folder)?)?)
    }

    /// Gives it to whoever has the container's files.
    pub(super) fn own(&self, path: &Path) -> io::Result<()> {
        match self.owner {
            Some(owner) => lchown(path, Some(owner.uid), Some(owner.gid)),
            None => Ok(()),
        }
    }

    /// Puts what was made at its place, durably; it is seen whole or not at all.
    pub(super) fn place(
        &self,
        made: &Path,
        (folder, name): (&Dir, &str),
        replace: bool,
    ) -> Result<(), FileError> {
        let name_here = made.file_name().ok_or(FileError::NotFound)?;
        let stage = made.parent().ok_or(FileError::NotFound)?;
        let stage = Dir::open_ambient_dir(stage, ambient_authority())?;
        let flags = if replace { RenameFlags::empty() } else { RenameFlags::NOREPLACE };
        renameat_with(&stage, name_here, folder, name, flags)?;
        // A folder's own descriptor may be one that only names it.
        folder.open(".")?.sync_all()?;
        Ok(())
    }
}

impl Note {
    fn folder(self) -> &'static str {
        match self {
            Self::Shadow => "shadow",
            Self::Uploaded => "uploaded",
            Self::Part => "parts",
        }
    }
}

/// A new file in the stage, closed to others until it is finished.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Removes what an agent that died was making.
pub(crate) fn remove_leftovers(folder: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(MAKING) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
