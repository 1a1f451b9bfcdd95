//! Text files, written as a whole; and what they were before.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use cap_std::fs::{Metadata, MetadataExt as _};
use zlh_agent_protocol::files::{Entry, EntryKind, MAX_TEXT_BYTES, WriteFile};

use super::look::{kind, modified_at};
use super::path::RelativePath;
use super::policy::Act;
use super::stage::{Note, create};
use super::{FileError, Files};

/// Of a file that is new.
const MODE: u32 = 0o644;

impl Files {
    pub(super) fn write(&self, file: &WriteFile) -> Result<Entry, FileError> {
        let path = self.target(&RelativePath::parse_below(&file.path)?, Act::Write)?;
        if file.content.len() > MAX_TEXT_BYTES {
            return Err(FileError::TooLarge(format!(
                "it has more than {MAX_TEXT_BYTES} bytes: upload it"
            )));
        }
        let before = self.replaceable(&path)?;
        if let Some(expected) = &file.if_modified_at {
            let unchanged = match &before {
                Some(before) => modified_at(before)? == *expected,
                None => false,
            };
            if !unchanged {
                return Err(FileError::Conflict("the file changed meanwhile".to_owned()));
            }
        }
        self.stage.make_room(file.content.len() as u64)?;
        if before.is_some() {
            self.keep_shadow(&path)?;
        }
        self.put(&path, before.as_ref(), |made| made.write_all(file.content.as_bytes()))?;
        crate::layout::remove(&self.stage.note(Note::Uploaded, &path))?;
        self.entry(&path)
    }

    pub(super) fn revert(&self, path: &str) -> Result<Entry, FileError> {
        let path = self.target(&RelativePath::parse_below(path)?, Act::Write)?;
        let shadow = self.stage.note(Note::Shadow, &path);
        let mut original = match fs::File::open(&shadow) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(FileError::Conflict("the file was not changed here".to_owned()));
            }
            original => original?,
        };
        let before = self.replaceable(&path)?;
        self.stage.make_room(original.metadata()?.len())?;
        self.put(&path, before.as_ref(), |made| io::copy(&mut original, made).map(drop))?;
        self.stage.forget(&path)?;
        self.entry(&path)
    }

    /// Where a change goes: a link is not replaced, what it leads to is changed.
    fn target(&self, path: &RelativePath, act: Act) -> Result<RelativePath, FileError> {
        self.check(act, path)?;
        match self.root.canonicalize(path.as_path()) {
            Ok(real) => {
                let real = real.to_str().ok_or_else(|| {
                    FileError::Refused("it leads to a name that is not text".to_owned())
                })?;
                let real = RelativePath::parse_below(real)?;
                self.check(act, &real)?;
                Ok(real)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(path.clone()),
            Err(error) => Err(error.into()),
        }
    }

    /// What is there now, if it may be replaced by a file.
    pub(super) fn replaceable(&self, path: &RelativePath) -> Result<Option<Metadata>, FileError> {
        let metadata = match self.root.symlink_metadata(path.as_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            metadata => metadata?,
        };
        match kind(&metadata) {
            EntryKind::File => Ok(Some(metadata)),
            EntryKind::Folder => Err(FileError::Conflict("it is a folder".to_owned())),
            EntryKind::Link => Err(FileError::Refused("it is a link".to_owned())),
            EntryKind::Special => Err(FileError::Refused("it is not a regular file".to_owned())),
        }
    }

    /// Keeps what the file is before its first change.
    fn keep_shadow(&self, path: &RelativePath) -> Result<(), FileError> {
        let shadow = self.stage.note(Note::Shadow, path);
        if shadow.exists() {
            return Ok(());
        }
        let (mut file, size) = self.open_file(path)?;
        self.stage.make_room(size)?;
        let draft = self.stage.draft();
        let mut made = create(&draft.path)?;
        io::copy(&mut file, &mut made)?;
        made.sync_all()?;
        crate::durable::rename(&draft.path, &shadow)?;
        Ok(())
    }

    /// Makes a file aside and puts it in place of what was there, with the same rights.
    fn put(
        &self,
        path: &RelativePath,
        before: Option<&Metadata>,
        fill: impl FnOnce(&mut fs::File) -> io::Result<()>,
    ) -> Result<(), FileError> {
        let (folder, name) = self.parent(path)?;
        let draft = self.stage.draft();
        let mut made = create(&draft.path)?;
        fill(&mut made)?;
        self.finish(&made, &draft.path, before)?;
        self.stage.place(&draft.path, (&folder, name), true)
    }

    /// Makes a finished file what the workload can use, all of it on the disk.
    pub(super) fn finish(
        &self,
        made: &fs::File,
        path: &Path,
        before: Option<&Metadata>,
    ) -> Result<(), FileError> {
        self.dress(made, path, before)?;
        Ok(made.sync_all()?)
    }

    /// Owner and rights.
    pub(super) fn dress(
        &self,
        made: &fs::File,
        path: &Path,
        before: Option<&Metadata>,
    ) -> Result<(), FileError> {
        // Neither setuid nor setgid come back with new contents.
        let mode = before.map_or(MODE, |before| before.mode() & 0o777);
        self.stage.own(path)?;
        Ok(made.set_permissions(fs::Permissions::from_mode(mode))?)
    }
}
