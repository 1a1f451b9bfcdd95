//! Where the code of each stanza comes from: the file that it was swapped for, or the one that
//! `spin.toml` names, as it was when it was first looked at.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::component_files::{Candidate, Digest, Files};

/// Looks code up. Copies share what they have seen.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    files: Arc<Files>,
    /// Digests by stanza.
    chosen: BTreeMap<String, Digest>,
    /// Digests of the files that the manifest names.
    taken: Arc<Mutex<BTreeMap<PathBuf, Digest>>>,
    /// What is tried out in place of a stanza's file.
    candidate: Option<(String, Candidate)>,
}

impl Sources {
    pub(crate) fn new(files: Arc<Files>, chosen: BTreeMap<String, Digest>) -> Self {
        Self { files, chosen, taken: Arc::default(), candidate: None }
    }

    /// The same, one stanza having another file.
    pub(crate) fn with(&self, id: &str, candidate: Candidate) -> Self {
        Self { candidate: Some((id.to_owned(), candidate)), ..self.clone() }
    }

    /// The same, the stanzas having been swapped for these.
    pub(crate) fn choosing(&self, chosen: BTreeMap<String, Digest>) -> Self {
        Self { chosen, candidate: None, ..self.clone() }
    }

    /// The code of a stanza whose `source` is `path`. Blocks.
    pub(crate) fn component(&self, id: &str, path: &Path) -> Result<Candidate, Unreadable> {
        match (&self.candidate, self.chosen.get(id)) {
            (Some((candidate_id, candidate)), _) if candidate_id == id => Ok(candidate.clone()),
            (_, Some(digest)) => self.kept(digest),
            _ => self.file(path),
        }
    }

    /// The code in a file that the manifest names. Blocks.
    pub(crate) fn file(&self, path: &Path) -> Result<Candidate, Unreadable> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(digest) = taken {
            return self.kept(&digest);
        }
        let failed = |path: &Path| unreadable(path.to_owned());
        let candidate = read(path)?;
        self.files.put(&candidate.bytes).map_err(failed(&self.files.path(&candidate.digest)))?;
        self.take(path, candidate.digest.clone());
        Ok(candidate)
    }

    /// Notes what the manifest's file is.
    pub(crate) fn take(&self, path: &Path, digest: Digest) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.insert(path.to_owned(), digest);
    }

    fn kept(&self, digest: &Digest) -> Result<Candidate, Unreadable> {
        let bytes = self.files.read(digest).map_err(unreadable(self.files.path(digest)))?;
        Ok(Candidate { digest: digest.clone(), bytes: bytes.into() })
    }
}

/// A file as it is now. Blocks.
pub(crate) fn read(path: &Path) -> Result<Candidate, Unreadable> {
    std::fs::read(path).map(Candidate::new).map_err(unreadable(path.to_owned()))
}

/// A file that could not be read or copied.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

fn unreadable(path: PathBuf) -> impl FnOnce(io::Error) -> Unreadable {
    move |source| Unreadable { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_manifest_stays_what_it_was_when_it_was_first_read() {
        let folder = tempfile::tempdir().unwrap();
        let files = Arc::new(Files::open(folder.path().join("files")).unwrap());
        let sources = Sources::new(Arc::clone(&files), BTreeMap::new());
        let path = folder.path().join("a.wasm");
        std::fs::write(&path, "one").unwrap();
        let one = sources.component("a", &path).unwrap().digest;

        std::fs::write(&path, "two").unwrap();

        assert_eq!(sources.clone().component("a", &path).unwrap().digest, one);
        assert_eq!(&*sources.component("a", &path).unwrap().bytes, b"one");
        let again = Sources::new(files, BTreeMap::new());
        assert_ne!(again.component("a", &path).unwrap().digest, one);
    }

    #[test]
    fn a_candidate_stands_before_a_choice_and_a_choice_before_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let files = Arc::new(Files::open(folder.path().to_owned()).unwrap());
        let chosen = files.put(b"chosen").unwrap();
        let sources = Sources::new(files, [("a".to_owned(), chosen.clone())].into());
        let path = Path::new("/nowhere");

        assert_eq!(sources.component("a", path).unwrap().digest, chosen);
        assert_eq!(sources.component("b", path).unwrap_err().path, path);
        let trying = sources.with("a", Candidate::new(b"new".to_vec()));
        assert_eq!(&*trying.component("a", path).unwrap().bytes, b"new");
    }
}
