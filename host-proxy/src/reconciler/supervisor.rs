//! Keeps the containers of this machine on or off as their owners want them, and finds those that nobody knows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use zlh_agent_protocol::internal::{AgentRoute, HostPower};
use zlh_ids::ContainerType;

use super::driver::{Container, DriverError, Found, NodeDriver};
use super::{Board, OperationApi};
use crate::agent_client::{AgentAddress, AgentApi, AgentFault};
use crate::clock::pause;
use crate::metrics::Metrics;

/// How long a dead agent goes unnoticed.
const INTERVAL: Duration = Duration::from_secs(2);
/// Containers that are started or stopped at once; a stop may take a while.
const CONCURRENCY: usize = 8;

/// How long a game may take to end before its container is stopped.
const HALT_LIMIT: Duration = Duration::from_secs(60);
const HALT_POLL: Duration = Duration::from_secs(1);

/// The supervisor.
pub struct Supervisor {
    /// Knows which containers there shall be.
    pub api: Arc<dyn OperationApi>,
    /// Knows which there are.
    pub driver: Arc<dyn NodeDriver>,
    /// Lets games end before their container does.
    pub agents: Arc<dyn AgentApi>,
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
        let ours = idle.iter().filter_map(|found| agents.iter().find(|route| is_of(route, found)));
        futures::stream::iter(ours)
            .for_each_concurrent(CONCURRENCY, |route| self.keep(route))
            .await;
        let unknown = |found: &Found| drained && !agents.iter().any(|route| is_of(route, found));
        self.clear_strays(strays, idle.into_iter().filter(unknown).collect()).await;
    }

    /// Lets the container run, or not, as its owner wants it.
    async fn keep(&self, route: &AgentRoute) {
        let port = route.agent_address.rsplit_once(':').and_then(|(_, port)| port.parse().ok());
        let container = Container {
            vmid: route.vmid,
            instance: route.instance_id,
            ports: port.into_iter().collect(),
        };
        if self.board.is_busy(container.vmid) {
            return;
        }
        match self.drive(route, &container).await {
            Ok(true) => self.metrics.agent_restarted(),
            Ok(false) => {}
            Err(error) => tracing::error!(
                vmid = %container.vmid, error = &error as &dyn std::error::Error, "a container is not as it ought to be"
            ),
        }
    }

    async fn drive(&self, route: &AgentRoute, container: &Container) -> Result<bool, DriverError> {
        match route.power {
            HostPower::Off => {
                self.halt(route).await;
                self.driver.stop(container).await?;
                Ok(false)
            }
            HostPower::On { boots } => {
                if self.driver.lacks_boots(container, boots).await? {
                    self.halt(route).await;
                }
                self.driver.revive(container, boots).await
            }
        }
    }

    /// Lets a game save its world and end. One that does not in time, or whose agent does not answer, ends with its
    /// container.
    async fn halt(&self, route: &AgentRoute) {
        if route.ctype != ContainerType::Game {
            return;
        }
        let agent = AgentAddress {
            vmid: route.vmid,
            instance: route.instance_id,
            address: route.agent_address.clone(),
            machine: route.machine.clone(),
        };
        let begun = Instant::now();
        loop {
            match self.agents.halt(&agent).await {
                Ok(true) | Err(AgentFault::Unreachable(_)) => return,
                Ok(false) => {}
                Err(fault) if fault.is_conflict() => {}
                Err(fault) => {
                    tracing::warn!(vmid = %route.vmid, error = %fault, "a game was not halted");
                    return;
                }
            }
            if begun.elapsed() >= HALT_LIMIT {
                tracing::warn!(vmid = %route.vmid, "a game did not end in time");
                return;
            }
            pause(HALT_POLL).await;
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
