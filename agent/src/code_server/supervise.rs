//! Starts code-server again when it ends by itself.

use std::sync::Arc;
use std::time::Duration;

use super::Desire;
use crate::agent::Agent;
use crate::clock::pause;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// What has run this long has not failed to start.
const SETTLED: Duration = Duration::from_secs(30);
/// How often the log's size is looked at.
const LOG_CHECK: Duration = Duration::from_secs(60);

/// Runs until it is dropped.
pub(crate) async fn supervise(agent: Arc<Agent>) {
    let mut desire = agent.code_server.subscribe();
    let mut wait = FIRST_PAUSE;
    loop {
        let now = desire.borrow_and_update().clone();
        match now {
            Desire { wanted: true, process: Some(process) } => {
                let settles = SETTLED.saturating_sub(process.since.elapsed());
                tokio::select! {
                    how = process.exited() => {
                        if agent.code_server.ended(&process) {
                            agent.code_server_ended(how.as_deref());
                        }
                    }
                    () = pause(settles), if wait > FIRST_PAUSE || !settles.is_zero() => {
                        wait = FIRST_PAUSE;
                        agent.code_server_settled();
                    }
                    () = pause(LOG_CHECK) => {
                        agent.shorten_log().await;
                    }
                    _ = desire.changed() => {}
                }
            }
            Desire { wanted: true, process: None } => {
                tokio::select! {
                    () = pause(wait) => {
                        wait = (wait * 2).min(LONGEST_PAUSE);
                        agent.recover_code_server().await;
                    }
                    // Somebody else starts or stops it.
                    _ = desire.changed() => {}
                }
            }
            Desire { wanted: false, .. } => {
                wait = FIRST_PAUSE;
                if desire.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
