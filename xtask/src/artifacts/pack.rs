//! Packs a folder into a `.tar.gz` that is the same for the same content.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest as _, Sha256};
use tar::{Builder, EntryType, Header};

use crate::shell::{megabytes, note};

/// Fast: the archives travel over loopback or a local network, and better levels take minutes.
const LEVEL: u32 = 3;

/// A finished archive.
pub(super) struct Packed {
    /// Below the store.
    pub(super) path: String,
    pub(super) sha256: String,
    pub(super) size_bytes: u64,
    pub(super) unpacked_bytes: u64,
}

/// Packs a folder's content: sorted, no times, owned by root, and only two modes. The archive appears
/// under its name once it is whole.
pub(super) fn pack(folder: &Path, store: &Path, path: &str) -> anyhow::Result<Packed> {
    let entries = entries(folder)?;
    let total = entries.iter().map(|entry| entry.size).sum();
    note(&format!("packing {path}: {} files, {}", entries.len(), megabytes(total)));

    let target = store.join(path);
    let unfinished = target.with_extension("unfinished");
    let file = File::create(&unfinished)
        .with_context(|| format!("could not create {}", unfinished.display()))?;
    let output = Hashing { output: BufWriter::new(file), hash: Sha256::new(), written: 0 };
    let mut archive = Builder::new(GzEncoder::new(output, Compression::new(LEVEL)));
    let mut progress = Progress { path, total, done: 0, tenths: 0 };
    for entry in &entries {
        add(&mut archive, folder, entry, &mut progress)
            .with_context(|| format!("could not pack {}", entry.path.display()))?;
    }
    let mut output = archive.into_inner()?.finish()?;
    output.flush()?;
    output.output.get_ref().sync_all()?;
    fs::rename(&unfinished, &target)
        .with_context(|| format!("could not name {}", target.display()))?;

    let packed = Packed {
        path: path.to_owned(),
        sha256: hex(&output.hash.finalize()),
        size_bytes: output.written,
        unpacked_bytes: total,
    };
    note(&format!("packed {path}: {}", super::ratio(packed.size_bytes, packed.unpacked_bytes)));
    Ok(packed)
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How many bytes the files below a folder have.
pub(super) fn size_of(folder: &Path) -> anyhow::Result<u64> {
    Ok(entries(folder)?.iter().map(|entry| entry.size).sum())
}

/// Puts a file at another place without copying its bytes.
pub(super) fn link_file(from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(parent) = to.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::hard_link(from, to)
        .with_context(|| format!("could not link {} to {}", to.display(), from.display()))
}

/// Puts a folder at another place without copying its files' bytes.
pub(super) fn link_tree(from: &Path, to: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in entries(from)? {
        let (source, target) = (from.join(&entry.path), to.join(&entry.path));
        match entry.kind {
            Kind::Folder => fs::create_dir_all(&target)?,
            Kind::File => link_file(&source, &target)?,
            Kind::Link(points_to) => std::os::unix::fs::symlink(points_to, &target)?,
        }
    }
    Ok(())
}

struct Entry {
    path: PathBuf,
    kind: Kind,
    size: u64,
}

enum Kind {
    Folder,
    File,
    Link(PathBuf),
}

/// Everything below a folder, sorted, a folder before its content. Sockets and the like are left out.
fn entries(folder: &Path) -> anyhow::Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(below) = open.pop() {
        let listing = match fs::read_dir(folder.join(&below)) {
            Ok(listing) => listing,
            // While npm works, folders come and go.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("could not list {}", below.display()));
            }
        };
        for entry in listing {
            let entry = entry?;
            let path = below.join(entry.file_name());
            let kind = entry.file_type()?;
            if kind.is_dir() {
                open.push(path.clone());
                found.push(Entry { path, kind: Kind::Folder, size: 0 });
            } else if kind.is_symlink() {
                found.push(Entry {
                    kind: Kind::Link(fs::read_link(folder.join(&path))?),
                    path,
                    size: 0,
                });
            } else if kind.is_file() {
                let size = entry.metadata().map_or(0, |metadata| metadata.len());
                found.push(Entry { path, kind: Kind::File, size });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn add<W: Write>(
    archive: &mut Builder<W>,
    folder: &Path,
    entry: &Entry,
    progress: &mut Progress<'_>,
) -> anyhow::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(entry.size);
    match &entry.kind {
        Kind::Folder => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(0o755);
            archive.append_data(&mut header, entry.path.join(""), io::empty())?;
        }
        Kind::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            archive.append_link(&mut header, &entry.path, target)?;
        }
        Kind::File => {
            let file = File::open(folder.join(&entry.path))?;
            let executable = file.metadata()?.permissions().mode() & 0o100 != 0;
            header.set_entry_type(EntryType::Regular);
            header.set_mode(if executable { 0o755 } else { 0o644 });
            archive.append_data(&mut header, &entry.path, file.take(entry.size))?;
            progress.advance(entry.size);
        }
    }
    Ok(())
}

/// Says every tenth.
struct Progress<'a> {
    path: &'a str,
    total: u64,
    done: u64,
    tenths: u64,
}

impl Progress<'_> {
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        let tenths = self.done * 10 / self.total.max(1);
        if tenths > self.tenths {
            self.tenths = tenths;
            note(&format!(
                "packing {}: {:>3} % ({})",
                self.path,
                tenths * 10,
                megabytes(self.done)
            ));
        }
    }
}

/// Hashes and counts what passes through.
struct Hashing<W> {
    output: W,
    hash: Sha256,
    written: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.output.write(bytes)?;
        if let Some(written) = bytes.get(..count) {
            self.hash.update(written);
        }
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_content_gives_the_same_archive() {
        let folder = tempfile::tempdir().unwrap();
        let store = tempfile::tempdir().unwrap();
        let long = "long-folder-name-".repeat(8);
        fs::create_dir_all(folder.path().join("bin")).unwrap();
        fs::create_dir_all(folder.path().join(&long)).unwrap();
        fs::write(folder.path().join("bin/program"), "#!/bin/sh\n").unwrap();
        fs::write(folder.path().join(&long).join("file"), "text").unwrap();
        std::os::unix::fs::symlink("bin/program", folder.path().join("link")).unwrap();

        let first = pack(folder.path(), store.path(), "first.tar.gz").unwrap();
        let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1);
        File::options()
            .write(true)
            .open(folder.path().join("bin/program"))
            .unwrap()
            .set_modified(past)
            .unwrap();
        let second = pack(folder.path(), store.path(), "second.tar.gz").unwrap();

        assert_eq!(first.sha256, second.sha256);
        assert_eq!(first.unpacked_bytes, 14);
        assert_eq!(
            first.size_bytes,
            fs::metadata(store.path().join("first.tar.gz")).unwrap().len()
        );
        let file = File::open(store.path().join("first.tar.gz")).unwrap();
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(file));
        let names: Vec<String> = archive
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().display().to_string())
            .collect();
        assert_eq!(
            names,
            ["bin/", "bin/program", "link", &format!("{long}/"), &format!("{long}/file")]
        );
    }
}
