//! Folders, names and copies.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Dir, MetadataExt as _};
use rustix::fs::{RenameFlags, renameat_with};
use zlh_agent_protocol::files::{Entry, EntryKind};

use super::look::kind;
use super::path::RelativePath;
use super::policy::Act;
use super::stage::create;
use super::{FileError, Files, MAX_DEPTH, MAX_ENTRIES};

impl Files {
    pub(super) fn make_folder(&self, path: &str) -> Result<Entry, FileError> {
        let path = RelativePath::parse_below(path)?;
        self.check(Act::Arrange, &path)?;
        let place = self.parent(&path)?;
        let draft = self.stage.draft();
        self.new_folder(&draft.path, 0o755)?;
        self.stage.place(&draft.path, (&place.0, place.1), false)?;
        self.entry(&path)
    }

    pub(super) fn rename(&self, from: &str, to: &str) -> Result<Entry, FileError> {
        let (from, to) = self.between(from, to)?;
        let ((old, old_name), (new, new_name)) = (self.parent(&from)?, self.parent(&to)?);
        renameat_with(&old, old_name, &new, new_name, RenameFlags::NOREPLACE)?;
        for folder in [&new, &old] {
            folder.open(".")?.sync_all()?;
        }
        self.stage.forget(&from)?;
        self.entry(&to)
    }

    pub(super) fn copy(&self, from: &str, to: &str) -> Result<Entry, FileError> {
        let (from, to) = self.between(from, to)?;
        let (source, name) = self.parent(&from)?;
        let (folder, new_name) = self.parent(&to)?;
        let draft = self.stage.draft();
        let mut budget = Budget { entries: MAX_ENTRIES, bytes: self.stage.free()? };
        self.copy_tree((&source, Path::new(name)), &draft.path, MAX_DEPTH, &mut budget)?;
        self.stage.sync()?;
        self.stage.place(&draft.path, (&folder, new_name), false)?;
        self.entry(&to)
    }

    /// Removes a file, or a folder with all that is in it.
    pub(super) fn delete(&self, path: &str) -> Result<(), FileError> {
        let path = RelativePath::parse_below(path)?;
        self.check(Act::Delete, &path)?;
        let (folder, name) = self.parent(&path)?;
        let is_folder = kind(&folder.symlink_metadata(name)?) == EntryKind::Folder;
        if is_folder {
            self.check(Act::Arrange, &path)?;
            folder.remove_dir_all(name)?;
        } else {
            folder.remove_file_or_symlink(name)?;
        }
        folder.open(".")?.sync_all()?;
        self.stage.forget(&path)?;
        Ok(())
    }

    /// Both paths, where nothing is in the way of the second.
    pub(super) fn between(
        &self,
        from: &str,
        to: &str,
    ) -> Result<(RelativePath, RelativePath), FileError> {
        let (from, to) = (RelativePath::parse_below(from)?, RelativePath::parse_below(to)?);
        self.check(Act::Arrange, &from)?;
        self.check(Act::Arrange, &to)?;
        if to.is_within(&from) {
            return Err(FileError::Conflict("`to` lies in `from`".to_owned()));
        }
        self.free_place(&to)?;
        Ok((from, to))
    }

    /// Checked again, atomically, once what shall be there is made.
    pub(super) fn free_place(&self, path: &RelativePath) -> Result<(), FileError> {
        match self.root.symlink_metadata(path.as_path()) {
            Ok(_) => Err(FileError::Conflict("something is there already".to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// A folder in the stage, for the workload.
    pub(super) fn new_folder(&self, path: &Path, mode: u32) -> Result<(), FileError> {
        fs::DirBuilder::new().mode(0o700).create(path)?;
        self.stage.own(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(())
    }

    fn copy_tree(
        &self,
        (dir, name): (&Dir, &Path),
        to: &Path,
        depth: usize,
        budget: &mut Budget,
    ) -> Result<(), FileError> {
        self.interrupted()?;
        budget.take_entry()?;
        let metadata = dir.symlink_metadata(name)?;
        match kind(&metadata) {
            EntryKind::File => {
                let (mut file, size) = self.open_in(dir, name)?;
                budget.take_bytes(size)?;
                let mut made = create(to)?;
                io::copy(&mut io::Read::take(&mut file, size), &mut made)?;
                self.dress(&made, to, Some(&metadata))
            }
            EntryKind::Folder => {
                let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
                let folder = dir.open_dir_nofollow(name)?;
                self.new_folder(to, metadata.mode() & 0o777)?;
                for entry in folder.entries()? {
                    let name = entry?.file_name();
                    self.copy_tree((&folder, Path::new(&name)), &to.join(&name), depth, budget)?;
                }
                Ok(())
            }
            EntryKind::Link => {
                symlink(dir.read_link_contents(name)?, to)?;
                Ok(self.stage.own(to)?)
            }
            EntryKind::Special => {
                Err(FileError::Refused("there is something that is not a regular file".to_owned()))
            }
        }
    }
}

/// What one request may use up.
pub(super) struct Budget {
    pub(super) entries: usize,
    pub(super) bytes: u64,
}

impl Budget {
    pub(super) fn take_entry(&mut self) -> Result<(), FileError> {
        let too_many =
            || FileError::TooLarge(format!("there are more than {MAX_ENTRIES} files and folders"));
        self.entries = self.entries.checked_sub(1).ok_or_else(too_many)?;
        Ok(())
    }

    pub(super) fn take_bytes(&mut self, bytes: u64) -> Result<(), FileError> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(FileError::Full)?;
        Ok(())
    }
}

pub(super) fn too_deep() -> FileError {
    FileError::TooLarge(format!("folders are more than {MAX_DEPTH} deep"))
}
