//! Keeps agents of this machine alive, and finds containers that nobody knows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use zlh_agent_protocol::internal::AgentRoute;

use super::driver::{Container, Found, NodeDriver};
use super::{Board, OperationApi};
use crate::metrics::Metrics;

/// How long a dead agent goes unnoticed.
const INTERVAL: Duration = Duration::from_secs(2);

/// The supervisor.
pub struct Supervisor {
    /// Knows which containers there shall be.
    pub api: Arc<dyn OperationApi>,
    /// Knows which there are.
    pub driver: Arc<dyn NodeDriver>,
    /// Which are being worked on, and not to be touched.
    pub board: Arc<Board>,
    /// How long a container that nobody knows is left alone.
    pub orphan_grace: Duration,
    /// Counts restarts.
    pub metrics: Arc<Metrics>,
}

/// Containers that nobody knows, since when.
pub(super) type Strays = HashMap<Found, Instant>;

impl Supervisor {
    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut strays = Strays::new();
        loop {
            let tick = async {
                ticks.tick().await;
                self.tick(&mut strays).await;
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tick => {}
            }
        }
    }

    pub(super) async fn tick(&self, strays: &mut Strays) {
        // In this order: a container that is there and idle now, and unknown only later, is a stray.
        let found = match self.driver.list().await {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "containers cannot be seen"
                );
                return;
            }
        };
        let idle: Vec<Found> =
            found.into_iter().filter(|found| !self.board.is_busy(found.vmid)).collect();
        let drained = self.board.is_drained();
        let agents = match self.api.agents().await {
            Ok(answer) => answer.agents,
            Err(error) => {
                strays.clear();
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "agents cannot be supervised"
                );
                return;
            }
        };
        for found in &idle {
            if let Some(route) = agents.iter().find(|route| is_of(route, found)) {
                self.revive(route).await;
            }
        }
        let unknown = |found: &Found| drained && !agents.iter().any(|route| is_of(route, found));
        self.clear_strays(strays, idle.into_iter().filter(unknown).collect()).await;
    }

    async fn revive(&self, route: &AgentRoute) {
        let port = route.agent_address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let container = Container {
            vmid: route.vmid,
            instance: route.instance_id,
            ports: port.into_iter().collect(),
        };
        if self.board.is_busy(container.vmid) {
            return;
        }
        match self.driver.revive(&container).await {
            Ok(true) => self.metrics.agent_restarted(),
            Ok(false) => {}
            Err(error) => tracing::error!(
                vmid = %container.vmid, error = &error as &dyn std::error::Error, "an agent is down"
            ),
        }
    }

    async fn clear_strays(&self, strays: &mut Strays, unknown: Vec<Found>) {
        strays.retain(|stray, _| unknown.contains(stray));
        for stray in unknown {
            let since = *strays.entry(stray).or_insert_with(Instant::now);
            if since.elapsed() < self.orphan_grace
                || self.board.is_busy(stray.vmid)
                || !self.board.is_drained()
            {
                continue;
            }
            match self.driver.set_aside(stray).await {
                Ok(()) => {
                    tracing::warn!(
                        vmid = %stray.vmid,
                        "a container that no instance knows was stopped and moved to `set-aside`"
                    );
                    strays.remove(&stray);
                }
                Err(error) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "a stray container stays"
                    );
                }
            }
        }
    }
}

fn is_of(route: &AgentRoute, found: &Found) -> bool {
    route.vmid == found.vmid && Some(route.instance_id) == found.instance
}
