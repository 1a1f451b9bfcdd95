//! Whether the server can be played on: asked in a task of its own, so that no answer of the agent waits.

use std::sync::Arc;
use std::time::Duration;

use zlh_agent_protocol::game::Readiness;

use super::launch::Launch;
use super::run::Run;
use super::{Phase, ping};
use crate::agent::Agent;
use crate::clock::{self, pause};
use crate::facts::Event;

/// From one question to the next while it starts, and later.
const STARTING: Duration = Duration::from_millis(250);
const RUNNING: Duration = Duration::from_secs(2);

/// Asks whatever server runs, again and again, until it is dropped.
pub(crate) async fn watch(agent: Arc<Agent>) {
    let mut phases = agent.server.subscribe();
    loop {
        let phase = phases.borrow_and_update().clone();
        let (Phase::Up(run), Some(launch)) = (phase, agent.server.launch()) else {
            if phases.changed().await.is_err() {
                return;
            }
            continue;
        };
        tokio::select! {
            () = ask(&agent, &run, &launch) => {}
            _ = phases.changed() => {}
        }
    }
}

async fn ask(agent: &Arc<Agent>, run: &Arc<Run>, launch: &Launch) {
    let outcome = match &launch.version.server.readiness {
        Readiness::Log { .. } if run.was_ready() => Ok(()),
        Readiness::Log { .. } => {
            let mut found = run.log_ready.clone();
            if found.wait_for(|found| *found).await.is_err() {
                // It ended without, which others notice.
                return std::future::pending().await;
            }
            Ok(())
        }
        Readiness::Tcp { port } => match launch.port(*port) {
            Ok(port) => ping::connect(port)
                .await
                .map(drop)
                .map_err(|error| format!("port {port} takes no connection: {error}")),
            Err(error) => Err(error.to_string()),
        },
        Readiness::Minecraft { port } => match launch.port(*port) {
            Ok(port) => ping::ping(port)
                .await
                .map(drop)
                .map_err(|error| format!("port {port} answers no status ping: {error}")),
            Err(error) => Err(error.to_string()),
        },
    };
    let ready = outcome.is_ok();
    if run.note(outcome) {
        agent.facts.post(Event::Ready(clock::text(&agent.clock)));
        tracing::info!("the server is ready");
        if let Err(error) = agent.save(|saved| saved.life.was_ready = true).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot save that it is ready"
            );
        }
        // The supervisor waits for a start that is late.
        agent.server.phase.send_modify(|_| {});
    }
    pause(if ready { RUNNING } else { STARTING }).await;
}
