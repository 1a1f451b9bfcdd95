//! Whether code-server serves the IDE: asked in a task of its own, so that no answer of the agent waits for it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::agent::Agent;
use crate::clock::pause;
use crate::code_server::{READY_LIMIT, page};
use crate::error::chain;
use crate::process::Process;

/// From one answer to the next question: `/` costs code-server a few milliseconds.
const PAUSE: Duration = Duration::from_secs(2);
/// An outcome that is older says nothing any more.
const STALE: Duration = Duration::from_secs(15);

/// The last outcome.
#[derive(Debug, Default)]
pub(crate) struct Readiness(Mutex<Option<Checked>>);

#[derive(Debug)]
struct Checked {
    process: Arc<Process>,
    at: Instant,
    outcome: Result<(), String>,
}

impl Readiness {
    /// What is known of this process. One that was not asked yet answered when it was started or found.
    pub(crate) fn of(&self, process: &Arc<Process>) -> Result<(), String> {
        let checked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match checked.as_ref().filter(|checked| Arc::ptr_eq(&checked.process, process)) {
            None => Ok(()),
            Some(checked) if checked.at.elapsed() > STALE => {
                Err("code-server was not asked lately".to_owned())
            }
            Some(checked) => checked.outcome.clone(),
        }
    }

    fn note(&self, process: Arc<Process>, outcome: Result<(), String>) {
        let checked = Checked { process, at: Instant::now(), outcome };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(checked);
    }
}

/// Asks whatever code-server runs, again and again, until it is dropped.
pub(crate) async fn watch(agent: Arc<Agent>) {
    let mut desire = agent.code_server.subscribe();
    loop {
        let process = desire.borrow_and_update().process.clone();
        let (Some(process), Some(launch)) = (process, agent.launch()) else {
            if desire.changed().await.is_err() {
                return;
            }
            continue;
        };
        let outcome = page(&launch.endpoint(), READY_LIMIT).await.map_err(|error| chain(&error));
        agent.readiness.note(process, outcome);
        tokio::select! {
            () = pause(PAUSE) => {}
            _ = desire.changed() => {}
        }
    }
}
