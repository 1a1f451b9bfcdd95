//! The operator's signed list of component files that may run at all.
//!
//! One line per file: its SHA-256, blanks, and the stanza that it may serve, as `sha256sum` writes them.
//! The signature is detached, in the format of minisign.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use minisign_verify::{PublicKey, Signature};
use thiserror::Error;

use super::component_files::Digest;

/// Where the list is and who signs it. The signature lies beside it, with `.minisig` at the end of the name.
#[derive(Debug, Clone)]
pub struct AllowListOptions {
    /// The list.
    pub path: PathBuf,
    /// minisign's public key, in base64.
    pub key: String,
}

/// Why a file may not run.
#[derive(Debug, Error)]
pub enum AllowListError {
    /// The list or its signature is not there.
    #[error("cannot read the allow-list's {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The list was not signed with the key.
    #[error("the allow-list {} is not signed by its key: {reason}", path.display())]
    Signature {
        /// The list.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The list cannot be understood.
    #[error("line {line} of the allow-list {} is not a SHA-256 and a component's name", path.display())]
    Line {
        /// The list.
        path: PathBuf,
        /// Number of the line, from 1.
        line: usize,
    },
    /// The file is not on it.
    #[error("the file of `{component}` (sha256 {digest}) is not on the allow-list {}", path.display())]
    Unlisted {
        /// The list.
        path: PathBuf,
        /// What it was to serve.
        component: String,
        /// Its digest.
        digest: Digest,
    },
}

/// A list whose signature was checked.
#[derive(Debug)]
pub(crate) struct DigestList {
    path: PathBuf,
    allowed: BTreeSet<(Digest, String)>,
}

impl DigestList {
    /// Reads the list and checks its signature. Blocks.
    pub(crate) fn open(options: &AllowListOptions) -> Result<Self, AllowListError> {
        let path = &options.path;
        let mut signature_path = path.clone().into_os_string();
        signature_path.push(".minisig");
        let text = read(path)?;
        let signature = read(Path::new(&signature_path))?;
        verify(&options.key, &text, &signature).map_err(|error| AllowListError::Signature {
            path: path.clone(),
            reason: error.to_string(),
        })?;
        let allowed = text
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'))
            .map(|(index, line)| {
                parse(line).ok_or(AllowListError::Line { path: path.clone(), line: index + 1 })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { path: path.clone(), allowed })
    }

    /// Whether a file may serve a stanza.
    pub(crate) fn check(&self, component: &str, digest: &Digest) -> Result<(), AllowListError> {
        if self.allowed.contains(&(digest.clone(), component.to_owned())) {
            return Ok(());
        }
        Err(AllowListError::Unlisted {
            path: self.path.clone(),
            component: component.to_owned(),
            digest: digest.clone(),
        })
    }
}

fn read(path: &Path) -> Result<String, AllowListError> {
    std::fs::read_to_string(path)
        .map_err(|source| AllowListError::Read { path: path.to_owned(), source })
}

fn verify(key: &str, text: &str, signature: &str) -> Result<(), minisign_verify::Error> {
    let signature = Signature::decode(signature)?;
    PublicKey::from_base64(key)?.verify(text.as_bytes(), &signature, false)
}

fn parse(line: &str) -> Option<(Digest, String)> {
    let mut words = line.split_whitespace();
    let (digest, name) = (Digest::parse(words.next()?)?, words.next()?.to_owned());
    words.next().is_none().then_some((digest, name))
}

/// Whether the text is a key that signatures can be checked with.
pub(crate) fn is_key(text: &str) -> bool {
    PublicKey::from_base64(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(text: &str) -> (tempfile::TempDir, AllowListOptions) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("allowed");
        let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
        let signature = minisign::sign(None, &pair.sk, text.as_bytes(), None, None).unwrap();
        std::fs::write(&path, text).unwrap();
        std::fs::write(folder.path().join("allowed.minisig"), signature.into_string()).unwrap();
        (folder, AllowListOptions { path, key: pair.pk.to_base64() })
    }

    #[test]
    fn a_listed_file_serves_the_component_that_it_is_listed_for() {
        let (good, other) = (Digest::of(b"good"), Digest::of(b"other"));
        let (_folder, options) = signed(&format!("# ours\n\n{good}  auth\n"));

        let list = DigestList::open(&options).unwrap();

        list.check("auth", &good).unwrap();
        for (component, digest) in [("identity", &good), ("auth", &other)] {
            let refused = list.check(component, digest).unwrap_err().to_string();
            assert!(
                refused.contains(component) && refused.contains(&digest.to_string()),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_list_that_was_changed_or_signed_by_another_is_refused() {
        let (_folder, options) = signed("");
        let (_other_folder, other) = signed("");
        let wrong_key = AllowListOptions { key: other.key, ..options.clone() };
        assert!(matches!(DigestList::open(&wrong_key), Err(AllowListError::Signature { .. })));
        DigestList::open(&options).unwrap();

        std::fs::write(&options.path, "# more\n").unwrap();

        assert!(matches!(DigestList::open(&options), Err(AllowListError::Signature { .. })));
    }

    #[test]
    fn a_line_that_is_no_entry_is_named() {
        for line in ["auth", "0a auth", &format!("{} a b", Digest::of(b""))] {
            let (_folder, options) = signed(&format!("# one\n{line}\n"));
            let error = DigestList::open(&options).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{error}");
        }
    }
}
