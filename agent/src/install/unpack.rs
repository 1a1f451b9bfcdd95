//! Unpacks a `.tar.gz` whose every entry stays below the folder it is unpacked to.
//!
//! The archive's hash is known to be right, but its contents are other people's packages. Links may only
//! point inside the tree, and nothing is ever written through one.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, BufRead, Read};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, SystemTime};

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use super::is_plain_relative;

/// The largest artifact known, code-server, has 11 000.
pub(super) const MAX_ENTRIES: usize = 400_000;
/// Headers, padding and long names come on top of the contents.
const OVERHEAD: u64 = 512 << 20;

/// The archive is not one that is unpacked here.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error("`{0}` leads out of the archive")]
    LeadsOut(String),
    #[error("`{0}` is below a link")]
    BelowLink(String),
    #[error("`{0}` is neither a file, a folder nor a link")]
    Special(String),
    #[error("has more than {0} entries")]
    TooMany(usize),
    #[error("unpacks to more than the {0} bytes allowed")]
    TooLarge(u64),
    #[error("`{path}` cannot be unpacked: {source}")]
    Entry { path: String, source: io::Error },
    #[error("is not a valid archive: {0}")]
    Archive(#[from] io::Error),
    #[error("interrupted")]
    Interrupted,
}

/// What an archive may become.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Files, folders and links.
    pub(crate) entries: usize,
    /// Contents of all files.
    pub(crate) bytes: u64,
}

/// Unpacks `file` into the new folder `into`; what it unpacked is there even when it fails.
pub(crate) fn unpack(
    file: impl BufRead,
    into: &Path,
    limits: Limits,
    interrupted: &dyn Fn() -> bool,
) -> Result<(), UnpackError> {
    let reader = MultiGzDecoder::new(file);
    let mut archive = Archive::new(reader.take(limits.bytes.saturating_add(OVERHEAD)));
    let mut tree = Tree { root: into.to_owned(), links: HashSet::new(), bytes_left: limits.bytes };
    make_folder(into)?;
    for (count, entry) in archive.entries()?.enumerate() {
        if count >= limits.entries {
            return Err(UnpackError::TooMany(limits.entries));
        }
        if interrupted() {
            return Err(UnpackError::Interrupted);
        }
        let mut entry = entry?;
        let name = entry.path()?.into_owned();
        // `tar -C folder .` writes `./` before every name.
        let name: PathBuf = name.components().filter(|part| *part != Component::CurDir).collect();
        if name.as_os_str().is_empty() && entry.header().entry_type() == EntryType::Directory {
            continue;
        }
        if entry.size() > tree.bytes_left {
            return Err(UnpackError::TooLarge(limits.bytes));
        }
        tree.bytes_left -= entry.size();
        tree.add(&name, &mut entry)?;
    }
    Ok(())
}

struct Tree {
    root: PathBuf,
    /// Symbolic links made so far.
    links: HashSet<PathBuf>,
    bytes_left: u64,
}

impl Tree {
    fn add(&mut self, name: &Path, entry: &mut Entry<'_, impl Read>) -> Result<(), UnpackError> {
        let text = || name.display().to_string();
        let failed = |source| UnpackError::Entry { path: text(), source };

        self.check(name)?;
        let path = self.root.join(name);
        if let Some(parent) = path.parent() {
            make_folder(parent).map_err(failed)?;
        }
        match entry.header().entry_type() {
            EntryType::Directory if self.links.contains(name) => {
                Err(UnpackError::BelowLink(text()))
            }
            EntryType::Directory => make_folder(&path).map_err(failed),
            EntryType::Regular | EntryType::Continuous => write(&path, entry).map_err(failed),
            EntryType::Symlink => {
                let target = target(entry)?;
                if !stays_inside(name, &target) {
                    return Err(UnpackError::LeadsOut(text()));
                }
                symlink(target, &path).map_err(failed)?;
                self.links.insert(name.to_owned());
                Ok(())
            }
            EntryType::Link => {
                let target: PathBuf =
                    target(entry)?.components().filter(|part| *part != Component::CurDir).collect();
                self.check(&target)?;
                fs::hard_link(self.root.join(target), &path).map_err(failed)
            }
            _ => Err(UnpackError::Special(text())),
        }
    }

    fn check(&self, name: &Path) -> Result<(), UnpackError> {
        if !is_plain_relative(name) {
            return Err(UnpackError::LeadsOut(name.display().to_string()));
        }
        if name.ancestors().skip(1).any(|folder| self.links.contains(folder)) {
            return Err(UnpackError::BelowLink(name.display().to_string()));
        }
        Ok(())
    }
}

fn target(entry: &Entry<'_, impl Read>) -> Result<PathBuf, UnpackError> {
    Ok(entry.link_name()?.map(std::borrow::Cow::into_owned).unwrap_or_default())
}

/// Whether a link at `name` points into the tree. Its own folders are real ones, so leading `..` mean what
/// they say; after another link's name they would not, hence only leading ones are allowed.
fn stays_inside(name: &Path, target: &Path) -> bool {
    let mut depth = name.components().count().saturating_sub(1);
    let mut parts = target.components().filter(|part| *part != Component::CurDir).peekable();
    while parts.next_if_eq(&Component::ParentDir).is_some() {
        match depth.checked_sub(1) {
            Some(above) => depth = above,
            None => return false,
        }
    }
    !target.as_os_str().is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

fn make_folder(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(path)
}

/// Rights are reduced to whether it is a program: no setuid, nothing that others may write.
fn write(path: &Path, entry: &mut Entry<'_, impl Read>) -> io::Result<()> {
    let mode = if entry.header().mode()? & 0o111 == 0 { 0o644 } else { 0o755 };
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    let size = entry.size();
    if io::copy(entry, &mut file)? != size {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    // Compiled Python files name the modification time of their source.
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(entry.header().mtime()?))
}
