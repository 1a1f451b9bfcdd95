//! Listeners that come from the process before, or go to the one after: nobody who connects meanwhile is
//! refused. Both ways speak the protocol of [socket activation], so systemd may hold the listeners, too.
//!
//! [socket activation]: https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use std::{env, io};

use command_fds::{CommandFdExt as _, FdMapping};
use listenfd::ListenFd;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, WaitOptions, waitpid};

use crate::clock;

/// The first number of a descriptor that is handed over.
const FIRST_FD: i32 = 3;
/// How long the new program may take to say its version.
const CHECK_TIMEOUT: Duration = Duration::from_secs(10);

/// Names of listeners.
const NAMES: [&str; 5] = ["public", "ide", "admin", "artifacts", "gateway"];
/// How long a child that ended may wait to be noticed.
const COLLECT_INTERVAL: Duration = Duration::from_secs(5);

/// Listeners by name: `public`, `ide`, `admin`, `artifacts`, `gateway`.
pub type Named = BTreeMap<String, TcpListener>;

/// Takes the listeners that this process was started with, if any.
///
/// # Errors
///
/// One of them is not a listener, or has a name that is unknown or another's.
pub fn inherited() -> io::Result<Named> {
    let mut passed = ListenFd::from_env();
    let names = crate::config::variable("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':').filter(|name| !name.is_empty());
    let mut listeners = Named::new();
    for index in 0..passed.len() {
        // systemd names a socket after its unit unless told otherwise; a lone one is the public listener.
        let name = match names.next() {
            Some(name) if !name.ends_with(".socket") => name,
            _ => "public",
        };
        if !NAMES.contains(&name) {
            return Err(io::Error::other(format!("no listener is called `{name}`")));
        }
        if let Some(listener) = passed.take_tcp_listener(index)? {
            // What agents inherited, they would keep open.
            fcntl_setfd(&listener, FdFlags::CLOEXEC)?;
            listener.set_nonblocking(true)?;
            if listeners.insert(name.to_owned(), listener).is_some() {
                return Err(io::Error::other(format!("`{name}` was handed over twice")));
            }
        }
    }
    Ok(listeners)
}

/// Children of the program before this one, which are this one's now. To be asked before it has any of its
/// own; none where the kernel does not tell.
#[must_use]
pub fn inherited_children() -> Vec<Pid> {
    let own = std::process::id();
    let listed = std::fs::read_to_string(format!("/proc/self/task/{own}/children"));
    let listed = listed.unwrap_or_default();
    let number = |text: &str| Pid::from_raw(text.parse().ok()?);
    listed.split_whitespace().filter_map(number).collect()
}

/// Takes note of children as they end, so that nothing is left of them. Nobody else waits for these.
pub async fn collect_children(mut children: Vec<Pid>) {
    while !children.is_empty() {
        children.retain(|child| matches!(waitpid(Some(*child), WaitOptions::NOHANG), Ok(None)));
        clock::pause(COLLECT_INTERVAL).await;
    }
}

/// The program at the path that this process was started from, whatever is there by now.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// To be asked at the start: later the path may lead to a file that was replaced. A program that was
    /// started by an absolute path is found by it again, symbolic links included.
    ///
    /// # Errors
    ///
    /// The path is not known.
    pub fn of_this_process() -> io::Result<Self> {
        let mut arguments = env::args_os();
        let called = arguments.next().map(PathBuf::from).filter(|path| path.is_absolute());
        let path = called.map_or_else(env::current_exe, Ok)?;
        Ok(Self { path, arguments: arguments.collect() })
    }

    /// Its version, which it says only if it runs.
    ///
    /// # Errors
    ///
    /// It does not.
    pub async fn check(&self) -> io::Result<String> {
        let asked =
            tokio::process::Command::new(&self.path).arg("--version").kill_on_drop(true).output();
        let output = tokio::time::timeout(CHECK_TIMEOUT, asked).await??;
        if !output.status.success() {
            return Err(io::Error::other(format!("`--version` ended with {}", output.status)));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    }

    /// Becomes that program, with these listeners. Returns only if it cannot.
    #[must_use]
    pub fn become_it(self, listeners: Named) -> io::Error {
        let names: Vec<&str> = listeners.keys().map(String::as_str).collect();
        let mut command = Command::new(self.path);
        command
            .args(self.arguments)
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env("LISTEN_PID", std::process::id().to_string());
        let mappings = (FIRST_FD..)
            .zip(listeners.into_values())
            .map(|(child_fd, listener)| FdMapping { parent_fd: listener.into(), child_fd })
            .collect();
        match command.fd_mappings(mappings) {
            Ok(command) => command.exec(),
            Err(error) => io::Error::other(error),
        }
    }
}
