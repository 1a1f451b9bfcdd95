//! Where everything lies below the root, and who owns it.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{
    DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, lchown,
};
use std::path::{Path, PathBuf};

use crate::config::Ids;

/// Puts the runtime in front again after `/etc/profile` has set `PATH` anew, as it does in login shells.
const PROFILE: &str = r#"# Written once by zlh-agent; yours to change.
if [ -n "$ZLH_RUNTIME_PATH" ]; then
    case ":$PATH:" in
        *":$ZLH_RUNTIME_PATH:"*) ;;
        *) PATH="$ZLH_RUNTIME_PATH:$PATH" ;;
    esac
fi
if [ -n "$BASH_VERSION" ] && [ -f "$HOME/.bashrc" ]; then
    . "$HOME/.bashrc"
fi
"#;

const BASHRC: &str = r#"# Written once by zlh-agent; yours to change.
case $- in
    *i*) ;;
    *) return ;;
esac
PS1='${USER}@${ZLH_CONTAINER%%:*}:\w\$ '
alias ls='ls --color=auto'
"#;

/// The paths of one container.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    pub(crate) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn opt(&self) -> PathBuf {
        self.root.join("opt/zlh")
    }

    pub(crate) fn runtime(&self, runtime: &str, version: &str) -> PathBuf {
        self.opt().join("runtimes").join(runtime).join(version)
    }

    pub(crate) fn game(&self, game: &str, variant: &str, version: &str) -> PathBuf {
        self.opt().join("games").join(game).join(variant).join(version)
    }

    /// A game server's own files.
    pub(crate) fn server(&self) -> PathBuf {
        self.root.join("srv/game")
    }

    pub(crate) fn code_servers(&self) -> PathBuf {
        self.opt().join("codeserver")
    }

    /// Owned by the agent, so that a customer cannot change how the IDE is served.
    pub(crate) fn code_server_config(&self) -> PathBuf {
        self.opt().join("code-server.yaml")
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.root.join("home/dev")
    }

    pub(crate) fn workspace(&self) -> PathBuf {
        self.home().join("workspace")
    }

    /// For temporary files, where the container has no `/tmp` of its own: names in a shared one are
    /// anybody's.
    pub(crate) fn temporary(&self) -> Option<PathBuf> {
        (self.root != Path::new("/")).then(|| self.root.join("tmp"))
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.join("var/lib/zlh-agent")
    }

    pub(crate) fn saved(&self) -> PathBuf {
        self.state().join("config.json")
    }

    /// Where the shell's holder has its socket.
    pub(crate) fn shell_state(&self) -> PathBuf {
        self.state().join("shell")
    }

    pub(crate) fn lock(&self) -> PathBuf {
        self.state().join("agent.lock")
    }

    pub(crate) fn downloads(&self) -> PathBuf {
        self.state().join("downloads")
    }

    /// What is being made of the container's files, and what is remembered of them.
    pub(crate) fn files(&self) -> PathBuf {
        self.state().join("files")
    }

    fn logs(&self) -> PathBuf {
        self.root.join("var/log/zlh-agent")
    }

    pub(crate) fn code_server_log(&self) -> PathBuf {
        self.logs().join("code-server.log")
    }

    /// Makes the agent's own folders. Those of a container that has its own root are left as they are.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        for folder in [
            self.root.clone(),
            self.opt().join("runtimes"),
            self.opt().join("games"),
            self.code_servers(),
            self.root.join("home"),
            self.root.join("srv"),
            self.root.join("run"),
        ] {
            DirBuilder::new().recursive(true).mode(0o755).create(folder)?;
        }
        for folder in [self.state(), self.downloads(), self.logs()] {
            DirBuilder::new().recursive(true).mode(0o755).create(&folder)?;
            fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        }
        fs::write(self.code_server_config(), "auth: none\n")
    }

    /// Makes home and workspace, the workload's own, and puts shell profiles there once.
    ///
    /// What is inside the home belongs to the workload, which may have put a link anywhere: nothing here
    /// follows one.
    pub(crate) fn prepare_home(&self, owner: Ids) -> io::Result<()> {
        let home = self.home();
        if make_folder(&home, owner, 0o750)? {
            for (name, text) in [(".profile", PROFILE), (".bashrc", BASHRC)] {
                write_once(&home.join(name), text, owner)?;
            }
        }
        make_folder(&self.workspace(), owner, 0o750)?;
        if let Some(temporary) = self.temporary() {
            make_folder(&temporary, owner, 0o700)?;
        }
        Ok(())
    }

    /// Makes the folder of a game server, its own.
    pub(crate) fn prepare_server(&self, owner: Ids) -> io::Result<()> {
        make_folder(&self.server(), owner, 0o750)?;
        if let Some(temporary) = self.temporary() {
            make_folder(&temporary, owner, 0o700)?;
        }
        Ok(())
    }

    /// Removes what an interrupted installation left.
    pub(crate) fn remove_leftovers(&self) -> io::Result<()> {
        for download in fs::read_dir(self.downloads())? {
            remove(&download?.path())?;
        }
        crate::files::remove_leftovers(&self.files())?;
        let mut shelves = vec![self.code_servers()];
        for runtime in fs::read_dir(self.opt().join("runtimes"))? {
            shelves.push(runtime?.path());
        }
        for game in fs::read_dir(self.opt().join("games"))? {
            for variant in fs::read_dir(game?.path())? {
                shelves.push(variant?.path());
            }
        }
        for shelf in shelves {
            for version in fs::read_dir(shelf)? {
                let path = version?.path();
                if path.extension().is_some_and(|extension| extension == "partial") {
                    remove(&path)?;
                }
            }
        }
        Ok(())
    }
}

/// Removes a file or a whole folder; neither being there is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let gone = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match gone {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Makes a folder for the workload in one that may be the workload's too. True if it was not there.
fn make_folder(path: &Path, owner: Ids, mode: u32) -> io::Result<bool> {
    let new = match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    own(path, owner)?;
    Ok(new)
}

fn own(path: &Path, owner: Ids) -> io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if (metadata.uid(), metadata.gid()) == (owner.uid, owner.gid) {
        return Ok(());
    }
    lchown(path, Some(owner.uid), Some(owner.gid))
}

fn write_once(path: &Path, text: &str, owner: Ids) -> io::Result<()> {
    // `create_new` fails on a dangling link too (O_EXCL in open(2)).
    match OpenOptions::new().write(true).create_new(true).mode(0o644).open(path) {
        Ok(mut file) => {
            file.write_all(text.as_bytes())?;
            own(path, owner)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the folder of code-server's socket, which nobody but the workload may enter.
///
/// # Errors
///
/// It exists and belongs to somebody else.
pub(crate) fn prepare_socket_folder(folder: &Path, owner: Ids) -> io::Result<()> {
    if let Some(parent) = folder.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    let new = match DirBuilder::new().mode(0o700).create(folder) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) => return Err(error),
    };
    let metadata = fs::symlink_metadata(folder)?;
    // A wrong setting must not take a folder such as /run away from everybody else.
    let foreign = !new && metadata.uid() != owner.uid && fs::read_dir(folder)?.next().is_some();
    if foreign || !metadata.is_dir() {
        return Err(io::Error::other(format!("{} is somebody else's", folder.display())));
    }
    own(folder, owner)?;
    fs::set_permissions(folder, Permissions::from_mode(0o700))
}
