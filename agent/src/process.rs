//! Processes: who they are, when they end, and how all that belong together are ended.

mod table;
mod tree;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

pub(crate) use table::Entry;
pub(crate) use tree::{StillAlive, Tree};

/// Marks every process of a container, so that those which leave their group, session and parent are found.
pub(crate) const CONTAINER_VARIABLE: &str = "ZLH_CONTAINER";

/// A handle to one process, which keeps meaning that one after its number was given to another.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    fd: AsyncFd<OwnedFd>,
    /// When this agent first held it.
    pub(crate) since: Instant,
}

impl Process {
    /// Needs a runtime with I/O.
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        let number = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
        let fd = rustix::process::pidfd_open(number, PidfdFlags::NONBLOCK)?;
        #[expect(
            deprecated,
            reason = "an OwnedFd is open as long as it lives; what replaces this is unsafe"
        )]
        let fd = AsyncFd::with_interest(fd, Interest::READABLE)?;
        Ok(Self { pid, fd, since: Instant::now() })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end and reaps it if it is this agent's child. Says how it ended, where that can be known.
    ///
    /// Dropping the future has no effect on the process.
    pub(crate) async fn exited(&self) -> Option<String> {
        use std::os::fd::AsFd as _;

        // A pidfd is readable once its process ended (pidfd_open(2)).
        if self.fd.readable().await.is_err() {
            return None;
        }
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
        let status =
            rustix::process::waitid(WaitId::PidFd(self.fd.get_ref().as_fd()), options).ok()??;
        match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Some(format!("exit code {code}")),
            (None, Some(signal)) => Some(format!("signal {signal}")),
            (None, None) => None,
        }
    }
}

/// Signals exactly the process that was seen, not one that has its number now.
pub(crate) fn signal(entry: &Entry, signal: Signal) {
    let Some(pid) = Pid::from_raw(entry.pid) else { return };
    let Ok(fd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return };
    if Entry::read(entry.pid).is_some_and(|now| now.started == entry.started) {
        // It may have ended since; then there is nothing to do.
        let _ = rustix::process::pidfd_send_signal(&fd, signal);
    }
}
