//! The data folder, its lock and its secrets.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, FlockOperation, access, flock};

use super::{Verdict, chain};
use crate::config::Config;
use crate::data_dir::{Half, require_traversable};

pub(super) async fn data_dir(config: &Config) -> Verdict {
    let root = match std::path::absolute(&config.data_dir) {
        Ok(root) => root,
        Err(error) => return Verdict::wrong(error.to_string(), "give another `--data-dir`"),
    };
    let (shown, there) = (root.display(), existing(&root));
    if !there.is_dir() {
        return Verdict::wrong(
            format!("{} is not a folder", there.display()),
            "give another `--data-dir`",
        );
    }
    if let Err(error) = access(there, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK) {
        return Verdict::wrong(
            format!("{} cannot be written: {error}", there.display()),
            "run zlh as its owner, or give another `--data-dir`",
        );
    }
    let root_user = rustix::process::geteuid().is_root();
    // Folders that are made may be entered.
    if root_user && let Err(error) = require_traversable(there) {
        return Verdict::wrong(
            chain(&error),
            format!("chmod o+x that folder, or move {shown} to such a place"),
        );
    }
    if there != root {
        return Verdict::ok(format!("{shown} will be made"));
    }
    match root_user {
        true => Verdict::ok(shown.to_string()),
        false => Verdict::warn(format!(
            "{shown}; containers are not isolated from each other, because this is not root"
        )),
    }
}

pub(super) async fn lock(config: &Config) -> Verdict {
    match holder(config) {
        Err(error) => Verdict::wrong(
            format!("the locks cannot be looked at: {error}"),
            "run this as the user that runs zlh",
        ),
        Ok(None) => Verdict::ok("free: no zlh uses the data folder"),
        Ok(Some(holder)) => {
            Verdict::ok(format!("held by {holder}, which must end before another starts"))
        }
    }
}

/// Who uses the data folder now.
pub(super) fn holder(config: &Config) -> io::Result<Option<String>> {
    for half in [Half::Proxy, Half::Components] {
        let path = config.data_dir.join("locks").join(half.lock_name());
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        match flock(&file, FlockOperation::NonBlockingLockShared) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let inode = file.metadata()?.ino();
                let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
                let process = locker(&locks, inode).map(|pid| format!("process {pid}"));
                return Ok(Some(process.unwrap_or_else(|| "another process".to_owned())));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(None)
}

/// The process that `/proc/locks` names for a file: `1: FLOCK ADVISORY WRITE 4711 08:01:1234 0 EOF`.
fn locker(locks: &str, inode: u64) -> Option<u32> {
    locks.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        (fields.next()? == "FLOCK").then_some(())?;
        let pid = fields.nth(2)?.parse().ok().filter(|pid| *pid != 0)?;
        let file = fields.next()?.rsplit(':').next()?;
        (file.parse() == Ok(inode)).then_some(pid)
    })
}

pub(super) async fn secrets(config: &Config) -> Verdict {
    let folder = config.data_dir.join("secrets");
    if !folder.exists() {
        return Verdict::ok("made at the first start");
    }
    match too_open(&folder) {
        Err(error) => Verdict::wrong(
            format!("{} cannot be read: {error}", folder.display()),
            "run zlh as its owner",
        ),
        Ok(None) => Verdict::ok(format!("{}, for its owner only", folder.display())),
        Ok(Some(path)) => Verdict::wrong(
            format!("others may read {}", path.display()),
            format!("chmod go= {}; who could read it may know it", path.display()),
        ),
    }
}

/// The first of the folder and its files that is not its owner's alone.
fn too_open(folder: &Path) -> io::Result<Option<PathBuf>> {
    let mut paths = vec![folder.to_owned()];
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    for path in paths {
        if fs::metadata(&path)?.permissions().mode() & 0o077 != 0 {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// The folder, or the nearest above it that is there.
pub(super) fn existing(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_holds_a_lock_is_found_by_the_inode() {
        let locks = "1: POSIX  ADVISORY  WRITE 11 08:01:77 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 12 08:01:78 0 EOF\n\
                     3: FLOCK  ADVISORY  WRITE 13 08:01:77 0 EOF\n\
                     3: -> FLOCK  ADVISORY  WRITE 14 08:01:79 0 EOF\n";

        assert_eq!(locker(locks, 77), Some(13));
        assert_eq!(locker(locks, 79), None);
        assert_eq!(locker("", 77), None);
    }

    #[test]
    fn a_secret_that_others_may_read_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let secret = folder.path().join("agent-secret");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&secret, "").unwrap();
        let open = |mode| {
            fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
            too_open(folder.path()).unwrap()
        };

        assert_eq!(open(0o600), None);
        assert_eq!(open(0o640), Some(secret.clone()));
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        assert_eq!(open(0o600), Some(folder.path().to_owned()));
    }

    #[test]
    fn the_nearest_folder_that_is_there_is_looked_at() {
        let folder = tempfile::tempdir().unwrap();

        assert_eq!(existing(&folder.path().join("a/b")), folder.path());
        assert_eq!(existing(folder.path()), folder.path());
    }
}
