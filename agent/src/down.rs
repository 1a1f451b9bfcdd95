//! Ends everything of a container, for whoever deletes it: also when its agent is dead, hangs or is just
//! being started again.

use std::io;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::clock::pause;
use crate::code_server::container_mark;
use crate::config::Config;
use crate::layout::Layout;
use crate::lock::Lock;
use crate::process::{Entry, StillAlive, Tree, signal};

/// How long an agent may take to end by itself.
const AGENT_GRACE: Duration = Duration::from_secs(5);
const AGENT_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);

/// Something is left.
#[derive(Debug, thiserror::Error)]
pub enum DownError {
    /// The agent's lock cannot be taken over.
    #[error("cannot lock the root folder")]
    Lock(#[source] io::Error),
    /// The agent does not end.
    #[error("the agent of {root} cannot be ended", root = .0.display())]
    Agent(std::path::PathBuf),
    /// Processes do not end.
    #[error(transparent)]
    Processes(#[from] ProcessesLeft),
}

/// Processes of the container are left.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct ProcessesLeft(#[from] StillAlive);

/// Ends the agent and then every process of the container; done when none is left. Doing it again is fine.
///
/// # Errors
///
/// Something could not be ended.
pub async fn down(config: &Config) -> Result<(), DownError> {
    let layout = Layout::new(config.root.clone());
    // Kept until the end: an agent that is started meanwhile finds the root taken.
    let _lock = if layout.state().is_dir() { Some(take_over(&layout).await?) } else { None };

    let mut tree = Tree::marked(vec![container_mark(config.vmid, layout.root())]);
    let own = rustix::process::geteuid().as_raw();
    if let Some(ids) = config.ids.filter(|ids| own == 0 && ids.uid != 0) {
        tree = tree.and_everything_of(ids.uid);
    }
    tree.end().await.map_err(ProcessesLeft)?;
    Ok(())
}

async fn take_over(layout: &Layout) -> Result<Lock, DownError> {
    let begun = Instant::now();
    loop {
        let held = match Lock::try_acquire(&layout.lock()).map_err(DownError::Lock)? {
            Ok(lock) => return Ok(lock),
            Err(held) => held,
        };
        if begun.elapsed() > AGENT_LIMIT {
            return Err(DownError::Agent(layout.root().to_owned()));
        }
        if let Some(agent) = held.holder.and_then(Entry::read) {
            let how = if begun.elapsed() < AGENT_GRACE { Signal::TERM } else { Signal::KILL };
            signal(&agent, how);
        }
        pause(POLL).await;
    }
}
