//! Ends what is left of a container when its agent's own program cannot: without mercy, but nothing else.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::task::spawn_blocking;

use crate::clock::pause;

/// A killed process is gone at once, unless it waits for a disk.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(50);

/// Kills the agent of a root, everything that it marked as its container's, and everything of the
/// container's own user. Done when nothing of it is left.
pub(super) async fn sweep(root: &Path, user: Option<u32>) -> io::Result<()> {
    for _ in 0..TRIES {
        // All of `/proc` is read.
        let root = root.to_owned();
        let found =
            spawn_blocking(move || kill_all(&root, user)).await.map_err(io::Error::other)??;
        if found == 0 {
            return Ok(());
        }
        pause(PAUSE).await;
    }
    Err(io::Error::other("processes of the container do not end"))
}

fn kill_all(root: &Path, user: Option<u32>) -> io::Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        let Some(pid) = number else { continue };
        // The descriptor is taken first: whoever is looked at after it is who it stands for.
        let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
        if is_of(pid, root, user) {
            found += 1;
            match pidfd_send_signal(&process, Signal::KILL) {
                // It has just ended by itself.
                Ok(()) | Err(Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(found)
}

fn is_of(pid: Pid, root: &Path, user: Option<u32>) -> bool {
    let folder = format!("/proc/{}", pid.as_raw_nonzero());
    let owned = user.is_some_and(|user| fs::metadata(&folder).is_ok_and(|own| own.uid() == user));
    let root = root.to_string_lossy();
    let marked = |entry: &[u8]| {
        let entry = String::from_utf8_lossy(entry);
        let agent = entry.strip_prefix("ZLH_AGENT_ROOT=").is_some_and(|of| of == root);
        let work = entry.strip_prefix("ZLH_CONTAINER=").and_then(|mark| mark.split_once(':'));
        agent || work.is_some_and(|(_, of)| of == root)
    };
    // An ended process has no environment any more.
    owned && !is_ended(&folder)
        || fs::read(format!("{folder}/environ"))
            .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(marked))
}

fn is_ended(folder: &str) -> bool {
    let stat = fs::read_to_string(format!("{folder}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['Z', 'X']))
}
