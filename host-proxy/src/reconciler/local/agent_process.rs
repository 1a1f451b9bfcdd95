//! One container's agent as a process of this machine. It is not ours to keep: it survives zlh, and a zlh
//! that starts later finds it by the lock that it holds.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::Instant;
use zlh_ids::Vmid;

use super::folder::Folder;
use super::sweep::sweep;
use crate::clock::pause;

/// An agent that dies again within this time is started later and later.
const STABLE: Duration = Duration::from_secs(30);
const FIRST_BACK_OFF: Duration = Duration::from_secs(1);
const LONGEST_BACK_OFF: Duration = Duration::from_secs(60);
/// A log that is longer at a start is put aside, so that two of these are the most there is.
const MAX_LOG_BYTES: u64 = 8 << 20;
/// Several times what code-server and its terminals take to end.
const DOWN_TIMEOUT: Duration = Duration::from_secs(25);

const PORT_PATIENCE: Duration = Duration::from_millis(500);
const PORT_POLL: Duration = Duration::from_millis(50);

/// What an agent is started with.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) program: PathBuf,
    pub(super) vmid: Vmid,
    /// Where it listens; 0 where it does not matter.
    pub(super) port: u16,
    /// User and group of the workload.
    pub(super) user: Option<u32>,
    pub(super) folder: Folder,
    pub(super) artifact_cache: PathBuf,
}

/// What is known of a container's agent.
#[derive(Debug, Default)]
pub(super) struct AgentProcess {
    /// The one that this zlh started.
    child: Option<Child>,
    started_at: Option<Instant>,
    back_off: Duration,
    /// Everything was ended, and nothing was started since.
    pub(super) is_down: bool,
}

impl AgentProcess {
    /// Starts the agent unless one runs.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::AddrInUse`] when somebody else listens on its port.
    pub(super) async fn start(&mut self, launch: &Launch) -> io::Result<()> {
        if !self.runs(launch).await? && !self.just_started() {
            port_is_free(launch.port).await?;
            self.spawn(launch).await?;
        }
        Ok(())
    }

    /// Starts an agent that ought to run, with patience for one that keeps dying; true if it did.
    pub(super) async fn revive(&mut self, launch: &Launch) -> io::Result<bool> {
        if self.runs(launch).await? {
            return Ok(false);
        }
        let age = self.started_at.map(|started_at| started_at.elapsed());
        if age.is_none_or(|age| age >= STABLE) {
            self.back_off = Duration::ZERO;
        } else if age.is_some_and(|age| age < self.back_off) {
            return Ok(false);
        }
        self.back_off = (self.back_off * 2).clamp(FIRST_BACK_OFF, LONGEST_BACK_OFF);
        port_is_free(launch.port).await?;
        self.spawn(launch).await?;
        Ok(true)
    }

    /// Ends the agent and everything in the container. Done when nothing of it runs.
    pub(super) async fn down(&mut self, launch: &Launch) -> io::Result<()> {
        if self.is_down && !self.runs(launch).await? {
            return Ok(());
        }
        if let Err(error) = ask_to_end(launch).await {
            tracing::warn!(
                vmid = %launch.vmid, error = &error as &dyn std::error::Error,
                "a container did not end by itself and is killed"
            );
            sweep(&launch.folder.root(), launch.user).await?;
        }
        *self = Self { is_down: true, ..Self::default() };
        Ok(())
    }

    async fn runs(&mut self, launch: &Launch) -> io::Result<bool> {
        if let Some(child) = &mut self.child {
            match child.try_wait()? {
                // Its lock is not tried: it may just be about to take it.
                None => return Ok(true),
                Some(status) => {
                    tracing::info!(vmid = %launch.vmid, %status, "an agent ended");
                    self.child = None;
                }
            }
        }
        blocking(launch, lock_is_held).await
    }

    fn just_started(&self) -> bool {
        self.started_at.is_some_and(|started_at| started_at.elapsed() < FIRST_BACK_OFF)
    }

    async fn spawn(&mut self, launch: &Launch) -> io::Result<()> {
        let log = blocking(launch, open_log).await?;
        let child = command(launch)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Signals to zlh's terminal are not for it.
            .process_group(0)
            .spawn()?;
        tracing::info!(vmid = %launch.vmid, pid = child.id(), "started an agent");
        self.child = Some(child);
        self.is_down = false;
        self.started_at = Some(Instant::now());
        Ok(())
    }
}

/// Waits for what an agent that just died held, which the kernel gives back in no order.
async fn port_is_free(port: u16) -> io::Result<()> {
    let mut waited = Duration::ZERO;
    loop {
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && waited < PORT_PATIENCE => {
                pause(PORT_POLL).await;
                waited += PORT_POLL;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn ask_to_end(launch: &Launch) -> io::Result<()> {
    let output = command(launch).arg("down").stdin(Stdio::null()).kill_on_drop(true).output();
    let output = tokio::time::timeout(DOWN_TIMEOUT, output)
        .await
        .map_err(|_| io::Error::other("`zlh-agent down` did not end in time"))??;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().last().unwrap_or_default();
    Err(io::Error::other(format!("`zlh-agent down`: {}: {last}", output.status)))
}

/// The agent's command with all it may know of its surroundings.
fn command(launch: &Launch) -> Command {
    let root = launch.folder.root();
    let mut command = Command::new(&launch.program);
    command
        .env_clear()
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LANG", "C.UTF-8")
        .env("ZLH_AGENT_LISTEN", format!("127.0.0.1:{}", launch.port))
        .env("ZLH_AGENT_VMID", launch.vmid.to_string())
        .env("ZLH_AGENT_TOKEN_FILE", launch.folder.token_file())
        .env("ZLH_CODE_SERVER_LISTEN", format!("unix:{}", launch.folder.ide_socket().display()))
        .env("ZLH_ARTIFACT_CACHE", &launch.artifact_cache)
        .env("ZLH_AGENT_ROOT", &root)
        .current_dir("/");
    if let Some(user) = launch.user {
        command.env("ZLH_AGENT_UID", user.to_string()).env("ZLH_AGENT_GID", user.to_string());
    }
    command
}

/// Files are on whatever disk the data folder is on.
async fn blocking<T: Send + 'static>(
    launch: &Launch,
    work: fn(&Launch) -> io::Result<T>,
) -> io::Result<T> {
    let launch = launch.clone();
    tokio::task::spawn_blocking(move || work(&launch)).await.map_err(io::Error::other)?
}

fn open_log(launch: &Launch) -> io::Result<File> {
    let path = launch.folder.log_file();
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > MAX_LOG_BYTES) {
        std::fs::rename(&path, path.with_extension("log.1"))?;
    }
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

/// Whether an agent lives in the folder: the kernel drops the lock when its holder dies.
fn lock_is_held(launch: &Launch) -> io::Result<bool> {
    let no_follow = i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default();
    let file =
        OpenOptions::new().read(true).custom_flags(no_follow).open(launch.folder.agent_lock());
    let file = match file {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(false),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(true),
        Err(error) => Err(error.into()),
    }
}
