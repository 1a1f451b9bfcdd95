//! Names of files as clients say them.

use std::path::Path;

use zlh_agent_protocol::files::MAX_PATH_BYTES;

use super::FileError;

/// Longest name of one file, in bytes (NAME_MAX of Linux).
const MAX_NAME_BYTES: usize = 255;

/// A path below the root, in one spelling: no empty name, no `.`, no `..`. The root itself is empty.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RelativePath(String);

impl RelativePath {
    pub(crate) fn parse(text: &str) -> Result<Self, FileError> {
        let invalid = |problem: &str| FileError::Invalid(format!("the path {problem}"));
        if text.len() > MAX_PATH_BYTES {
            return Err(invalid("is too long"));
        }
        if text.bytes().any(|byte| byte == 0) {
            return Err(invalid("has a zero byte in it"));
        }
        if text.starts_with('/') {
            return Err(invalid("is not relative"));
        }
        let text = text.strip_suffix('/').unwrap_or(text);
        for name in text.split('/').filter(|_| !text.is_empty()) {
            match name {
                "" | "." | ".." => return Err(invalid("has an empty name, `.` or `..` in it")),
                name if name.len() > MAX_NAME_BYTES => {
                    return Err(invalid("has too long a name in it"));
                }
                _ => {}
            }
        }
        Ok(Self(text.to_owned()))
    }

    /// One that is not the root itself.
    pub(crate) fn parse_below(text: &str) -> Result<Self, FileError> {
        let path = Self::parse(text)?;
        if path.is_root() {
            Err(FileError::Invalid("a path is needed".to_owned()))
        } else {
            Ok(path)
        }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// For system calls, which do not take an empty one.
    pub(crate) fn as_path(&self) -> &Path {
        Path::new(if self.is_root() { "." } else { &self.0 })
    }

    /// The folder that it is in, and its name in there.
    pub(crate) fn split(&self) -> (Self, &str) {
        match self.0.rsplit_once('/') {
            Some((folder, name)) => (Self(folder.to_owned()), name),
            None => (Self(String::new()), &self.0),
        }
    }

    pub(crate) fn join(&self, name: &str) -> Self {
        if self.is_root() { Self(name.to_owned()) } else { Self(format!("{}/{name}", self.0)) }
    }

    /// Whether it is `other` or lies below it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        self.as_path().starts_with(&other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_cannot_lead_up_or_have_two_spellings() {
        for text in ["/etc", "..", "a/../b", "./a", "a//b", "a/./b", "a/..", "/", "a\0b", "a//"] {
            assert!(RelativePath::parse(text).is_err(), "{text:?}");
        }
        assert!(RelativePath::parse(&"a".repeat(256)).is_err());
        assert!(RelativePath::parse(&"a/".repeat(513)).is_err());
        for text in ["", "a", "a/b.txt", "...", "a b", "ä/ö", "-rf", "a/"] {
            assert!(RelativePath::parse(text).is_ok(), "{text:?}");
        }
        assert!(RelativePath::parse_below("").is_err());
    }

    #[test]
    fn a_neighbour_is_not_within() {
        let of = |text| RelativePath::parse(text).unwrap();

        assert!(of("a/b").is_within(&of("a")) && of("a").is_within(&of("a")));
        assert!(!of("ab").is_within(&of("a")) && !of("a").is_within(&of("a/b")));
    }
}
