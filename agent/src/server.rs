//! The game server of this container: a supervised process that outlives the agent, with its console.

mod crash;
mod launch;
mod life;
mod log;
mod memory;
mod ping;
mod power;
mod readiness;
mod run;
mod seed;
mod supervise;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use zlh_agent_protocol::agent::AgentState;

use crate::backlog::Backlog;
use crate::holder;
use crate::holder::wire::Record;

pub(crate) use launch::{Launch, SpecError};
pub(crate) use life::Life;
pub(crate) use ping::ping;
pub(crate) use power::{PowerDone, StartError};
pub(crate) use readiness::watch as watch_readiness;
pub(crate) use run::{Run, RunError};
pub(crate) use supervise::supervise as supervise_server;

/// What the server is doing.
#[derive(Debug, Clone, Default)]
pub(crate) enum Phase {
    /// It does not run, and shall not.
    #[default]
    Down,
    /// It runs.
    Up(Arc<Run>),
    /// It was asked to end.
    Ending(Arc<Run>),
    /// It crashed, and is started again then.
    Waiting(OffsetDateTime),
    /// It is not started again by itself.
    GaveUp(String),
}

/// The server, shared.
#[derive(Debug)]
pub(crate) struct Server {
    phase: watch::Sender<Phase>,
    /// How it is started, once it is installed.
    launch: watch::Sender<Option<Arc<Launch>>>,
    /// Ends the power operation that runs now.
    interrupt: watch::Sender<CancellationToken>,
    pub(crate) console: Arc<Backlog>,
    state: PathBuf,
}

impl Server {
    /// With the last words of an earlier run in its console.
    pub(crate) fn new(state: PathBuf) -> Self {
        let record = std::fs::read(holder::record(&state))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<Record>(&bytes).ok());
        let console = match record {
            None => Backlog::new(0),
            Some(record) => {
                let length = u64::try_from(record.tail.len()).unwrap_or_default();
                let at = record.end.saturating_sub(length);
                let console = Backlog::new(at);
                console.push(at, record.tail.as_bytes());
                console
            }
        };
        Self {
            phase: watch::Sender::default(),
            launch: watch::Sender::default(),
            interrupt: watch::Sender::default(),
            console: Arc::new(console),
            state,
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub(crate) fn launch(&self) -> Option<Arc<Launch>> {
        self.launch.borrow().clone()
    }

    pub(crate) fn set_launch(&self, launch: Launch) {
        self.launch.send_replace(Some(Arc::new(launch)));
    }

    pub(crate) fn state(&self) -> &Path {
        &self.state
    }

    /// The run that lives, asked to end or not.
    pub(crate) fn run(&self) -> Option<Arc<Run>> {
        match self.phase() {
            Phase::Up(run) | Phase::Ending(run) => Some(run),
            Phase::Down | Phase::Waiting(_) | Phase::GaveUp(_) => None,
        }
    }

    /// The only place that changes the phase.
    fn enter(&self, phase: Phase) {
        match &phase {
            Phase::Down => tracing::info!("the server is down"),
            Phase::Up(run) => tracing::info!(process.pid = run.pid, "the server runs"),
            Phase::Ending(_) => tracing::info!("ending the server"),
            Phase::Waiting(until) => tracing::warn!(%until, "the server ended by itself"),
            Phase::GaveUp(why) => tracing::error!("gave up: {why}"),
        }
        self.phase.send_replace(phase);
    }

    /// Leaves a phase that has this run in it, if it is still the one.
    fn leave(&self, run: &Arc<Run>, next: Phase) -> bool {
        let current = self.run().is_some_and(|current| Arc::ptr_eq(&current, run));
        if current {
            self.enter(next);
        }
        current
    }
}

impl Phase {
    pub(crate) fn state(&self) -> AgentState {
        match self {
            Self::Down => AgentState::Stopped,
            Self::Up(run) if run.was_ready() => AgentState::Running,
            Self::Up(_) => AgentState::Starting,
            Self::Ending(_) => AgentState::Stopping,
            Self::Waiting(_) => AgentState::Crashed,
            Self::GaveUp(_) => AgentState::Error,
        }
    }
}
