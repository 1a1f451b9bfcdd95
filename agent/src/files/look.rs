//! Looking: lists, facts of one file, the text of one.

use std::collections::BinaryHeap;
use std::io::Read as _;
use std::path::Path;

use cap_std::fs::{Dir, Metadata, MetadataExt as _};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use zlh_agent_protocol::files::{
    Content, DEFAULT_LISTED, Entry, EntryKind, ListFiles, Listing, MAX_LISTED, MAX_TEXT_BYTES,
};

use super::path::RelativePath;
use super::policy::Act;
use super::stage::Note;
use super::{FileError, Files};

impl Files {
    /// One page of a folder. Memory is bounded by the page, however large the folder is.
    pub(super) fn list(&self, asked: &ListFiles) -> Result<Listing, FileError> {
        let folder = RelativePath::parse(&asked.path)?;
        self.check(Act::Read, &folder)?;
        let limit = match asked.limit {
            None => DEFAULT_LISTED,
            Some(limit) => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        if !(1..=MAX_LISTED).contains(&limit) {
            return Err(FileError::Invalid(format!("`limit` is not 1 to {MAX_LISTED}")));
        }
        let dir = self.root.open_dir(folder.as_path())?;

        // The smallest names after `after`, one more than asked for.
        let mut names = BinaryHeap::with_capacity(limit + 2);
        for entry in dir.entries()? {
            let name = entry?.file_name();
            // A name that is not text cannot be asked for either.
            let Some(name) = name.to_str() else { continue };
            let late = asked.after.as_deref().is_none_or(|after| name > after);
            if late && !self.policy.hides(&folder.join(name)) {
                names.push(name.to_owned());
                if names.len() > limit + 1 {
                    names.pop();
                }
            }
        }
        let mut names = names.into_sorted_vec();
        let more = names.len() > limit;
        names.truncate(limit);
        let next = if more { names.last().cloned() } else { None };
        let entries = names
            .iter()
            .filter_map(|name| match self.entry_in(&dir, Path::new(name), &folder.join(name)) {
                // It went away meanwhile.
                Err(FileError::NotFound) => None,
                entry => Some(entry),
            })
            .collect::<Result<_, _>>()?;
        Ok(Listing { path: folder.as_str().to_owned(), entries, next })
    }

    pub(super) fn stat(&self, path: &str) -> Result<Entry, FileError> {
        let path = RelativePath::parse(path)?;
        self.check(Act::Read, &path)?;
        self.entry(&path)
    }

    pub(super) fn entry(&self, path: &RelativePath) -> Result<Entry, FileError> {
        self.entry_in(&self.root, path.as_path(), path)
    }

    fn entry_in(&self, dir: &Dir, name: &Path, path: &RelativePath) -> Result<Entry, FileError> {
        let metadata = dir.symlink_metadata(name)?;
        let file = metadata.is_file();
        let uploaded = file && self.stage.note(Note::Uploaded, path).exists();
        Ok(Entry {
            name: path.split().1.to_owned(),
            kind: kind(&metadata),
            size_bytes: metadata.len(),
            mode: format!("{:o}", metadata.mode() & 0o777),
            modified_at: modified_at(&metadata)?,
            source: uploaded.then(|| "user".to_owned()),
            revertible: file && self.stage.note(Note::Shadow, path).exists(),
        })
    }

    pub(super) fn read(&self, path: &str) -> Result<Content, FileError> {
        let path = RelativePath::parse_below(path)?;
        self.check(Act::Read, &path)?;
        let (file, size) = self.open_file(&path)?;
        let limit = MAX_TEXT_BYTES as u64;
        let too_large =
            || FileError::TooLarge(format!("it has more than {MAX_TEXT_BYTES} bytes: download it"));
        if size > limit {
            return Err(too_large());
        }
        let modified_at = modified_at(&file.metadata()?)?;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes)?;
        if bytes.len() > MAX_TEXT_BYTES {
            return Err(too_large());
        }
        let content = String::from_utf8(bytes)
            .map_err(|_| FileError::Refused("it is not UTF-8 text: download it".to_owned()))?;
        Ok(Content { path: path.as_str().to_owned(), content, modified_at })
    }
}

pub(super) fn kind(metadata: &Metadata) -> EntryKind {
    let kind = metadata.file_type();
    if kind.is_file() {
        EntryKind::File
    } else if kind.is_dir() {
        EntryKind::Folder
    } else if kind.is_symlink() {
        EntryKind::Link
    } else {
        EntryKind::Special
    }
}

pub(super) fn modified_at(metadata: &Metadata) -> Result<String, FileError> {
    let modified = OffsetDateTime::from(metadata.modified()?.into_std());
    modified.format(&Rfc3339).map_err(|_| FileError::Refused("its time is out of range".to_owned()))
}
