//! Files of components by their SHA-256, so that what serves does not depend on what becomes of the files
//! that `spin.toml` names.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt as _;

/// Largest component that is taken in, in bytes: several times what a debug build of one has.
pub const MAX_COMPONENT_BYTES: u64 = 64 << 20;

/// SHA-256 of a file, in lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Digest(String);

impl Digest {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self::from_hash(Sha256::new_with_prefix(bytes))
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (text.len() == 64 && text.bytes().all(hex)).then(|| Self(text.to_owned()))
    }

    fn from_hash(hash: Sha256) -> Self {
        Self(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl TryFrom<String> for Digest {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not a SHA-256 in lower-case hexadecimal digits")
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The folder of such files. They are written once and never changed.
#[derive(Debug)]
pub(crate) struct Files {
    folder: PathBuf,
}

impl Files {
    pub(crate) fn open(folder: PathBuf) -> io::Result<Self> {
        DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self { folder })
    }

    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    /// Keeps a copy that outlasts a power failure. Blocks.
    pub(crate) fn put(&self, bytes: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(bytes);
        let path = self.path(&digest);
        if fs::read(&path).is_ok_and(|kept| kept == bytes) {
            return Ok(digest);
        }
        let mut file = NamedTempFile::new_in(&self.folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path)?;
        File::open(&self.folder)?.sync_all()?;
        Ok(digest)
    }

    /// The bytes that have this digest, no others. Blocks.
    pub(crate) fn read(&self, digest: &Digest) -> io::Result<Vec<u8>> {
        let bytes = fs::read(self.path(digest))?;
        if Digest::of(&bytes) == *digest {
            Ok(bytes)
        } else {
            Err(io::Error::new(io::ErrorKind::InvalidData, "the file is damaged"))
        }
    }

    /// Begins to take in a file that arrives in pieces. Blocks for a moment.
    pub(crate) fn upload(&self) -> io::Result<Upload> {
        let file = NamedTempFile::new_in(&self.folder)?;
        let writer = tokio::fs::File::from_std(file.reopen()?);
        Ok(Upload { file, writer, hash: Sha256::new(), size: 0 })
    }

    /// Removes all files but these, and what was left of uploads. Blocks.
    pub(crate) fn prune(&self, keep: &BTreeSet<Digest>) -> io::Result<()> {
        let keep: BTreeSet<PathBuf> = keep.iter().map(|digest| self.path(digest)).collect();
        remove_others(&self.folder, |path| keep.contains(path))
    }
}

/// Removes what a folder has besides what is to be kept.
pub(crate) fn remove_others(folder: &Path, keep: impl Fn(&Path) -> bool) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if !keep(&path) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// A file that arrives in pieces. Dropped, it is gone.
#[derive(Debug)]
pub struct Upload {
    file: NamedTempFile,
    writer: tokio::fs::File,
    hash: Sha256,
    size: u64,
}

impl Upload {
    /// Appends a piece.
    ///
    /// # Errors
    ///
    /// The disk refuses, or the file has become larger than [`MAX_COMPONENT_BYTES`]
    /// ([`io::ErrorKind::FileTooLarge`]).
    pub async fn write(&mut self, piece: &[u8]) -> io::Result<()> {
        self.size = self.size.saturating_add(piece.len() as u64);
        if self.size > MAX_COMPONENT_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.hash.update(piece);
        self.writer.write_all(piece).await
    }

    /// The whole file, back from the disk.
    ///
    /// # Errors
    ///
    /// The disk refuses.
    pub async fn finish(mut self) -> io::Result<Candidate> {
        self.writer.flush().await?;
        let bytes = tokio::fs::read(self.file.path()).await?;
        let digest = Digest::from_hash(self.hash);
        if bytes.len() as u64 != self.size || Digest::of(&bytes) != digest {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the disk lost a part of it"));
        }
        Ok(Candidate { digest, bytes: bytes.into() })
    }
}

/// A file that may come to serve.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Its digest.
    pub digest: Digest,
    pub(crate) bytes: bytes::Bytes,
}

impl Candidate {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        Self { digest: Digest::of(&bytes), bytes: bytes.into() }
    }

    /// Its size in bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_found_by_its_digest_until_it_is_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().join("components")).unwrap();
        let digest = files.put(b"abc").unwrap();
        assert_eq!(
            digest.to_string(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(files.read(&digest).unwrap(), b"abc");

        fs::write(files.path(&digest), b"abd").unwrap();
        assert_eq!(files.read(&digest).unwrap_err().kind(), io::ErrorKind::InvalidData);

        files.put(b"abc").unwrap();
        assert_eq!(files.read(&digest).unwrap(), b"abc");
    }

    #[test]
    fn what_is_not_kept_is_removed_with_what_uploads_left() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().to_owned()).unwrap();
        let (kept, other) = (files.put(b"kept").unwrap(), files.put(b"other").unwrap());
        fs::write(folder.path().join(".tmp123"), b"half").unwrap();

        files.prune(&[kept.clone()].into()).unwrap();

        files.read(&kept).unwrap();
        assert!(files.read(&other).is_err());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn an_upload_is_bounded_and_dropped_without_a_trace() {
        let folder = tempfile::tempdir().unwrap();
        let files = Files::open(folder.path().to_owned()).unwrap();
        let mut upload = files.upload().unwrap();
        upload.write(b"a").await.unwrap();
        upload.write(b"bc").await.unwrap();

        assert_eq!(upload.finish().await.unwrap().digest, Digest::of(b"abc"));

        let mut upload = files.upload().unwrap();
        let piece = vec![0; 1 << 20];
        for _ in 0..64 {
            upload.write(&piece).await.unwrap();
        }
        let error = upload.write(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        drop(upload);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_digest_is_sixty_four_lower_case_digits() {
        assert!(Digest::parse(&"0a".repeat(32)).is_some());
        for text in ["", "0a", &"0A".repeat(32), &"0g".repeat(32), &"0a".repeat(33)] {
            assert!(Digest::parse(text).is_none(), "{text}");
        }
    }
}
