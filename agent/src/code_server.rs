//! code-server as a supervised process that outlives the agent.

mod launch;
mod probe;
mod supervise;
mod template;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::blocking::blocking;
use crate::clock::pause;
use crate::process::{Process, StillAlive};

pub(crate) use launch::{Launch, container_mark};
pub(crate) use probe::{ProbeError, READY_LIMIT, page};
pub(crate) use supervise::supervise;
pub use template::Template;

/// From the start of the process to the first good answer: about 2 s on an idle machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long it may answer, but not with the IDE: this is what it does for ever under a wrong Node.
const BROKEN_LIMIT: Duration = Duration::from_secs(20);
const START_POLL: Duration = Duration::from_millis(200);

/// Where code-server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A port.
    Tcp(SocketAddr),
    /// A unix socket, which only its user and root can reach.
    Unix(PathBuf),
}

/// Why code-server does not run, or does not stop.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CodeServerError {
    #[error("code-server cannot be started")]
    Spawn(#[source] io::Error),
    #[error("code-server ended while it was starting ({how}): {log}")]
    Ended { how: String, log: String },
    #[error("code-server did not become ready")]
    NotReady(#[source] ProbeError),
    #[error("code-server cannot be stopped")]
    Stop(#[from] StillAlive),
}

/// What shall be, and what is.
#[derive(Debug, Clone, Default)]
pub(crate) struct Desire {
    /// It shall run.
    pub(crate) wanted: bool,
    /// The process that runs and has answered.
    pub(crate) process: Option<Arc<Process>>,
}

/// The one code-server of this container. Whoever calls [`ensure`](Self::ensure) or [`stop`](Self::stop)
/// holds the operation.
#[derive(Debug, Default)]
pub(crate) struct CodeServer {
    desire: watch::Sender<Desire>,
}

impl CodeServer {
    pub(crate) fn desire(&self) -> Desire {
        self.desire.borrow().clone()
    }

    /// Makes it run: keeps a process that was started just so before, by whatever agent, and answers.
    ///
    /// Dropping the future leaves the process, which the next call finds.
    pub(crate) async fn ensure(&self, launch: &Launch) -> Result<(), CodeServerError> {
        self.desire.send_modify(|desire| desire.wanted = true);
        let known = launch.clone();
        if let Some(process) = blocking(move || known.find()).await {
            match verify(launch, &process).await {
                Ok(()) => {
                    tracing::info!(process.pid = process.pid(), "found code-server running");
                    self.runs(process);
                    return Ok(());
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    process.pid = process.pid(),
                    "code-server runs but does not answer; starting it again"
                ),
            }
        }
        self.desire.send_modify(|desire| desire.process = None);
        launch.tree().end().await?;

        let new = launch.clone();
        let process = blocking(move || new.spawn()).await.map_err(CodeServerError::Spawn)?;
        let verified = verify(launch, &process).await;
        match verified {
            Ok(()) => {
                tracing::info!(process.pid = process.pid(), "started code-server");
                self.runs(process);
                Ok(())
            }
            Err(error) => {
                launch.tree().end().await?;
                // Reaps it.
                process.exited().await;
                Err(error)
            }
        }
    }

    /// Ends it and everything that was started in it.
    pub(crate) async fn stop(&self, launch: &Launch) -> Result<(), CodeServerError> {
        let process = self.desire.send_replace(Desire::default()).process;
        launch.tree().end().await?;
        if let Some(process) = process {
            process.exited().await;
            tracing::info!(process.pid = process.pid(), "stopped code-server");
        }
        Ok(())
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Desire> {
        self.desire.subscribe()
    }

    /// Leaves it as it is: what never worked is not started again and again.
    pub(crate) fn give_up(&self) {
        self.desire.send_modify(|desire| desire.wanted = false);
    }

    fn runs(&self, process: Process) {
        self.desire.send_replace(Desire { wanted: true, process: Some(Arc::new(process)) });
    }

    /// Forgets a process that ended, unless another one took its place.
    fn ended(&self, process: &Arc<Process>) -> bool {
        self.desire.send_if_modified(|desire| {
            let current =
                desire.process.as_ref().is_some_and(|current| Arc::ptr_eq(current, process));
            if current {
                desire.process = None;
            }
            current
        })
    }
}

/// Waits until it answers. `/healthz` alone would not do: under a wrong Node it is fine while `/` is 500.
async fn verify(launch: &Launch, process: &Process) -> Result<(), CodeServerError> {
    let begun = Instant::now();
    let answers = async {
        let mut answered: Option<Instant> = None;
        loop {
            let error = match probe::probe(&launch.endpoint(), probe::START_LIMIT).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            if matches!(error, ProbeError::Status { .. }) {
                answered.get_or_insert_with(Instant::now);
            }
            let broken = answered.is_some_and(|since| since.elapsed() > BROKEN_LIMIT);
            if broken || begun.elapsed() > START_LIMIT {
                return Err(CodeServerError::NotReady(error));
            }
            pause(START_POLL).await;
        }
    };
    // The process first: another program may answer on its port.
    tokio::select! {
        biased;
        how = process.exited() => Err(CodeServerError::Ended {
            how: how.unwrap_or_else(|| "nobody saw how".to_owned()),
            log: launch.last_log_line(),
        }),
        answered = answers => answered,
    }
}
