//! Files that are written for a server. Its folder is its own, so there may be a link anywhere in it: none is
//! followed.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown, mkdirat, openat};
use rustix::io::Errno;

use crate::config::Ids;

/// Writes those that are not there.
pub(crate) fn write(root: &Path, files: &[(PathBuf, String)], owner: Ids) -> io::Result<()> {
    let root = openat(CWD, root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    files.iter().try_for_each(|(path, text)| {
        write_one(&root, path, text, owner)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    })
}

fn write_one(root: &OwnedFd, path: &Path, text: &str, owner: Ids) -> io::Result<()> {
    let mut folder = root.try_clone()?;
    for part in path.parent().into_iter().flat_map(Path::components) {
        let Component::Normal(name) = part else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        let new = match mkdirat(&folder, name, Mode::from_raw_mode(0o750)) {
            Ok(()) => true,
            Err(Errno::EXIST) => false,
            Err(error) => return Err(error.into()),
        };
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        folder = openat(&folder, name, flags, Mode::empty())?;
        if new {
            own(&folder, owner)?;
        }
    }
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    // With EXCL, not even a dangling link is followed (open(2)).
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = match openat(&folder, name, flags, Mode::from_raw_mode(0o640)) {
        Ok(file) => file,
        Err(Errno::EXIST) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    own(&file, owner)?;
    File::from(file).write_all(text.as_bytes())
}

fn own(fd: impl AsFd, owner: Ids) -> io::Result<()> {
    Ok(fchown(fd, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn me() -> Ids {
        Ids { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() }
    }

    #[test]
    fn what_is_there_stays_and_no_link_is_followed() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |path: &str| root.path().join(path);
        let write =
            |path: &str, text: &str| write(root.path(), &[(path.into(), text.to_owned())], me());

        write("a/b/c.txt", "first").unwrap();
        write("a/b/c.txt", "second").unwrap();
        assert_eq!(fs::read_to_string(at("a/b/c.txt")).unwrap(), "first");

        symlink(outside.path(), at("out")).unwrap();
        symlink(outside.path().join("x"), at("dangling")).unwrap();
        assert!(write("out/x", "root was here").is_err());
        write("dangling", "root was here").unwrap();
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
