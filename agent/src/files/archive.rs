//! Packs files and folders into a `.tar.gz`.

use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::Path;

use cap_fs_ext::DirExt as _;
use cap_std::fs::{Dir, Metadata, MetadataExt as _};
use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};
use zlh_agent_protocol::files::{ArchiveFiles, Entry, EntryKind, MAX_ARCHIVED};

use super::look::kind;
use super::path::RelativePath;
use super::policy::Act;
use super::stage::create;
use super::tree::{Budget, too_deep};
use super::{FileError, Files, MAX_DEPTH, MAX_ENTRIES};

impl Files {
    pub(super) fn archive(&self, asked: &ArchiveFiles) -> Result<Entry, FileError> {
        if !(1..=MAX_ARCHIVED).contains(&asked.paths.len()) {
            return Err(FileError::Invalid(format!("`paths` has not 1 to {MAX_ARCHIVED} paths")));
        }
        let to = RelativePath::parse_below(&asked.to)?;
        self.check(Act::Arrange, &to)?;
        if !to.as_str().ends_with(".tar.gz") {
            return Err(FileError::Invalid("`to` does not end in `.tar.gz`".to_owned()));
        }
        self.free_place(&to)?;
        let (folder, name) = self.parent(&to)?;

        let draft = self.stage.draft();
        let made = create(&draft.path)?;
        let mut tar = Builder::new(GzEncoder::new(made, Compression::fast()));
        let mut budget = Budget { entries: MAX_ENTRIES, bytes: u64::MAX };
        for path in &asked.paths {
            let path = RelativePath::parse_below(path)?;
            self.check(Act::Read, &path)?;
            let (dir, name) = self.parent(&path)?;
            self.pack(
                &mut tar,
                (&dir, Path::new(name)),
                Path::new(path.as_str()),
                MAX_DEPTH,
                &mut budget,
            )?;
        }
        let made: File = tar.into_inner()?.finish()?;
        self.finish(&made, &draft.path, None)?;
        self.stage.place(&draft.path, (&folder, name), false)?;
        self.entry(&to)
    }

    fn pack<W: Write>(
        &self,
        tar: &mut Builder<W>,
        (dir, name): (&Dir, &Path),
        path: &Path,
        depth: usize,
        budget: &mut Budget,
    ) -> Result<(), FileError> {
        self.interrupted()?;
        budget.take_entry()?;
        let metadata = dir.symlink_metadata(name)?;
        let mut header = header(&metadata);
        match kind(&metadata) {
            EntryKind::File => {
                let (file, size) = self.open_in(dir, name)?;
                header.set_size(size);
                // The file may change while it is read; the archive stays one that can be read.
                let bytes = file.take(size).chain(io::repeat(0)).take(size);
                Ok(tar.append_data(&mut header, path, bytes)?)
            }
            EntryKind::Folder => {
                let depth = depth.checked_sub(1).ok_or_else(too_deep)?;
                header.set_entry_type(EntryType::Directory);
                tar.append_data(&mut header, path, io::empty())?;
                let folder = dir.open_dir_nofollow(name)?;
                for entry in folder.entries()? {
                    let name = entry?.file_name();
                    self.pack(tar, (&folder, Path::new(&name)), &path.join(&name), depth, budget)?;
                }
                Ok(())
            }
            EntryKind::Link => {
                header.set_entry_type(EntryType::Symlink);
                Ok(tar.append_link(&mut header, path, dir.read_link_contents(name)?)?)
            }
            EntryKind::Special => {
                Err(FileError::Refused("there is something that is not a regular file".to_owned()))
            }
        }
    }
}

fn header(metadata: &Metadata) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(metadata.mode() & 0o777);
    header.set_mtime(u64::try_from(metadata.mtime()).unwrap_or_default());
    header.set_size(0);
    header
}
