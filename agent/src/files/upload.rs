//! Uploads: raw bytes to the disk as they come, in place only when all of them are there. What broke off goes on
//! where it ended.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{FlockOperation, flock};
use tokio::sync::mpsc;
use zlh_agent_protocol::files::{UploadFile, Uploaded};

use super::path::RelativePath;
use super::policy::Act;
use super::stage::Note;
use super::{FileError, Files};
use crate::layout::remove;

/// Largest file. The disk is the real limit; this one is for wrong numbers.
const MAX_BYTES: u64 = 1 << 40;
/// Uploads that were begun and not finished.
const MAX_PARTS: usize = 32;
/// How long one of those is kept.
const PART_LIFE: Duration = Duration::from_secs(24 * 60 * 60);
/// How much is handed to the disk at a time, so that there is little left to wait for at the end.
const FLUSH_BYTES: u64 = 32 << 20;

/// An upload under way: its part is locked.
pub(super) struct Upload {
    files: Files,
    path: RelativePath,
    part: PathBuf,
    file: File,
    size: u64,
    offset: u64,
}

impl Files {
    /// How far an upload is.
    pub(super) fn uploaded(&self, asked: &UploadFile) -> Result<Uploaded, FileError> {
        let path = RelativePath::parse_below(&asked.path)?;
        self.check(Act::Upload, &path)?;
        let part = fs::metadata(self.stage.note(Note::Part, &path)).map_or(0, |part| part.len());
        Ok(progress(&path, if part > asked.size { 0 } else { part }, false))
    }

    /// Everything that can be refused before the first byte.
    pub(super) fn begin_upload(self, asked: &UploadFile) -> Result<Upload, FileError> {
        let path = RelativePath::parse_below(&asked.path)?;
        self.check(Act::Upload, &path)?;
        self.replaceable(&path)?;
        self.parent(&path)?;
        if asked.size > MAX_BYTES || asked.offset > asked.size {
            return Err(FileError::TooLarge("no file is that large".to_owned()));
        }
        self.stage.make_room(asked.size - asked.offset)?;
        self.tidy_parts()?;

        let part = self.stage.note(Note::Part, &path);
        let mut options = OpenOptions::new();
        let mut file =
            options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&part)?;
        let busy = || FileError::Conflict("the same file is being uploaded".to_owned());
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| busy())?;
        // Whoever had the lock may have put the file in place meanwhile.
        let inode = fs::metadata(&part).map(|metadata| metadata.ino()).map_err(|_| busy())?;
        if inode != file.metadata()?.ino() {
            return Err(busy());
        }
        if asked.offset == 0 {
            file.set_len(0)?;
        }
        let there = file.metadata()?.len();
        if asked.offset != there {
            return Err(FileError::Conflict(format!("{there} bytes are there: go on from them")));
        }
        file.seek(SeekFrom::Start(there))?;
        Ok(Upload { files: self, path, part, file, size: asked.size, offset: there })
    }

    fn tidy_parts(&self) -> Result<(), FileError> {
        let mut count = 0;
        let now = SystemTime::from(self.now);
        for entry in fs::read_dir(self.stage.notes(Note::Part))? {
            let entry = entry?;
            let modified = entry.metadata()?.modified()?;
            if now.duration_since(modified).is_ok_and(|age| age > PART_LIFE) {
                remove(&entry.path())?;
            } else {
                count += 1;
            }
        }
        if count > MAX_PARTS {
            return Err(FileError::Conflict(
                "too many uploads were begun and not finished".to_owned(),
            ));
        }
        Ok(())
    }
}

impl Upload {
    /// Writes what comes until there is no more, and puts the file in place if that was all of it.
    pub(super) fn receive(
        mut self,
        mut bytes: mpsc::Receiver<Bytes>,
    ) -> Result<Uploaded, FileError> {
        let mut dirty = 0;
        while let Some(bytes) = bytes.blocking_recv() {
            let length = bytes.len() as u64;
            if length > self.size - self.offset {
                remove(&self.part)?;
                return Err(FileError::TooLarge("more bytes came than were announced".to_owned()));
            }
            self.file.write_all(&bytes)?;
            self.offset += length;
            dirty += length;
            if dirty >= FLUSH_BYTES {
                self.file.sync_data()?;
                dirty = 0;
            }
        }
        if self.offset < self.size {
            self.file.sync_all()?;
            return Ok(progress(&self.path, self.offset, false));
        }
        let files = &self.files;
        let before = files.replaceable(&self.path)?;
        let (folder, name) = files.parent(&self.path)?;
        files.finish(&self.file, &self.part, before.as_ref())?;
        files.stage.place(&self.part, (&folder, name), true)?;
        remove(&files.stage.note(Note::Shadow, &self.path))?;
        fs::write(files.stage.note(Note::Uploaded, &self.path), [])?;
        Ok(progress(&self.path, self.offset, true))
    }
}

fn progress(path: &RelativePath, offset: u64, complete: bool) -> Uploaded {
    Uploaded { path: path.as_str().to_owned(), offset, complete }
}
