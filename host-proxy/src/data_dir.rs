//! The folder of everything that lasts: who may look into it, and that only one process uses it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _,
};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use uuid::Uuid;

/// Where components are managed, below the data folder.
pub const ADMIN_ADDRESS: &str = "admin-address";

/// The data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    /// Another process uses it.
    #[error("another zlh uses the data folder {0}; stop it, or give this one its own `--data-dir`")]
    Locked(PathBuf),
    /// Workloads run as other users and could not reach their files.
    #[error(
        "the folder {0} cannot be entered by other users, so that containers below it could not run; \
         use another data folder, such as `--data-dir /var/lib/zlh`"
    )]
    Untraversable(PathBuf),
    /// A file or folder.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// A prepared data folder. Held locks end with it.
#[derive(Debug)]
pub struct DataDir {
    root: PathBuf,
    _locks: Vec<File>,
}

/// Which half of the system a process runs; two halves may share a folder, the same half twice may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Components and their databases.
    Components,
    /// Listeners, poller, reconciler and local containers.
    Proxy,
}

impl Half {
    /// Name of its lock, below `locks`.
    pub(crate) fn lock_name(self) -> &'static str {
        match self {
            Self::Components => "components",
            Self::Proxy => "proxy",
        }
    }
}

impl DataDir {
    /// Makes the folder with its parts and takes the locks.
    ///
    /// # Errors
    ///
    /// Another process holds a lock, or the file system refuses.
    pub fn open(root: &Path, halves: &[Half]) -> Result<Self, DataDirError> {
        let root = std::path::absolute(root).map_err(failed("resolve", root))?;
        // Workloads of containers pass through, so it can be entered, but not listed.
        make_folder(&root, 0o711)?;
        make_folder(&root.join("secrets"), 0o700)?;
        make_folder(&root.join("state"), 0o700)?;
        make_folder(&root.join("locks"), 0o700)?;
        let mut locks = Vec::new();
        for half in halves {
            let path = root.join("locks").join(half.lock_name());
            let file = open_lock(&path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => locks.push(file),
                Err(rustix::io::Errno::WOULDBLOCK) => return Err(DataDirError::Locked(root)),
                Err(error) => return Err(failed("lock", &path)(error.into())),
            }
        }
        Ok(Self { root, _locks: locks })
    }

    /// A path below the folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// The folder itself, absolute.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Held while something is made that must be made once: two halves may start at the same time.
    pub(crate) fn making(&self) -> Result<File, DataDirError> {
        let path = self.path("locks/making");
        let file = open_lock(&path)?;
        flock(&file, FlockOperation::LockExclusive)
            .map_err(|error| failed("lock", &path)(error.into()))?;
        Ok(file)
    }

    /// Name of this host-proxy, the same after every start.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn host_id(&self) -> Result<String, DataDirError> {
        let _making = self.making()?;
        let path = self.path("host-id");
        match fs::read_to_string(&path) {
            Ok(text) if Uuid::try_parse(text.trim()).is_ok() => Ok(text.trim().to_owned()),
            _ => {
                let id = Uuid::new_v4().to_string();
                write_atomically(&path, id.as_bytes(), 0o600)?;
                Ok(id)
            }
        }
    }

    /// Notes where the components of this folder can be managed, for `zlh component`.
    ///
    /// # Errors
    ///
    /// The file system refuses.
    pub fn note_admin(&self, address: SocketAddr) -> Result<(), DataDirError> {
        write_atomically(&self.path(ADMIN_ADDRESS), address.to_string().as_bytes(), 0o600)
    }

    /// Fails where another user could not reach the containers.
    ///
    /// # Errors
    ///
    /// Names the folder that is in the way.
    pub fn require_traversable(&self) -> Result<(), DataDirError> {
        require_traversable(&self.root)
    }
}

/// The same for any folder; it must be there.
pub(crate) fn require_traversable(root: &Path) -> Result<(), DataDirError> {
    for folder in root.ancestors() {
        let mode = fs::metadata(folder).map_err(failed("look at", folder))?.mode();
        if mode & 0o001 == 0 {
            return Err(DataDirError::Untraversable(folder.to_owned()));
        }
    }
    Ok(())
}

/// Makes a folder, or sets the mode of one that is there.
pub(crate) fn make_folder(path: &Path, mode: u32) -> Result<(), DataDirError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(path)
        .map_err(failed("make the folder", path))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(failed("set the permissions of", path))
}

/// Replaces a file as a whole: after a crash it is the old one or the new one.
pub(crate) fn write_atomically(path: &Path, content: &[u8], mode: u32) -> Result<(), DataDirError> {
    let temporary = path.with_extension(format!("tmp-{}", Uuid::new_v4().simple()));
    let write = || -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(folder) => File::open(folder)?.sync_all(),
            None => Ok(()),
        }
    };
    write().map_err(failed("write", path))
}

pub(crate) fn failed<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl Fn(io::Error) -> DataDirError + 'a {
    move |source| DataDirError::Io { action, path: path.to_owned(), source }
}

fn open_lock(path: &Path) -> Result<File, DataDirError> {
    OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_at_a_time_uses_a_half_of_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let first = DataDir::open(folder.path(), &[Half::Proxy]).unwrap();

        let second = DataDir::open(folder.path(), &[Half::Components, Half::Proxy]);
        assert!(matches!(second, Err(DataDirError::Locked(_))));
        DataDir::open(folder.path(), &[Half::Components]).unwrap();

        drop(first);
        DataDir::open(folder.path(), &[Half::Proxy]).unwrap();
    }

    #[test]
    fn the_host_keeps_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(folder.path(), &[]).unwrap();

        assert_eq!(data.host_id().unwrap(), data.host_id().unwrap());
    }

    #[test]
    fn a_folder_that_others_cannot_enter_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir::open(&folder.path().join("data"), &[]).unwrap();

        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let error = data.require_traversable().expect_err("private parent");

        assert!(error.to_string().contains(&*folder.path().to_string_lossy()), "{error}");
        assert!(error.to_string().contains("--data-dir /var/lib/zlh"), "{error}");
    }
}
