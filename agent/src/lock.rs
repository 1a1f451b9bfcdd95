//! One agent per root: a lock that the kernel drops when its holder dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Held for the life of the process.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

/// Somebody else holds the lock.
#[derive(Debug)]
pub(crate) struct Held {
    /// Who, as far as the lock file tells truly.
    pub(crate) holder: Option<i32>,
}

impl Lock {
    pub(crate) fn try_acquire(path: &Path) -> io::Result<Result<Self, Held>> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Err(Held { holder: holder(&mut file) })),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.rewind()?;
        writeln!(file, "{}", std::process::id())?;
        Ok(Ok(Self { _file: file }))
    }
}

/// The process that the file names, if it really has the file open: a stale number may be anybody's by now.
fn holder(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.read_to_string(&mut text).ok()?;
    let pid: i32 = text.trim().parse().ok()?;
    let lock = file.metadata().ok()?;
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    open.flatten()
        .filter_map(|fd| std::fs::metadata(fd.path()).ok())
        .any(|metadata| (metadata.dev(), metadata.ino()) == (lock.dev(), lock.ino()))
        .then_some(pid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_agent_learns_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.lock");

        let first = Lock::try_acquire(&path).unwrap().unwrap();
        let second = Lock::try_acquire(&path).unwrap().unwrap_err();
        assert_eq!(second.holder, Some(std::process::id().try_into().unwrap()));

        drop(first);
        assert!(Lock::try_acquire(&path).unwrap().is_ok());
    }
}
