//! Looks at this host-proxy's part of the agents every few seconds and reports what it saw, one batch per
//! tick.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use uuid::Uuid;
use zlh_agent_protocol::internal::{AgentRoute, Agents, ClaimAgents, Heartbeats, Observation};

use crate::agent_client::{AgentAddress, AgentApi};
use crate::api::{CallError, InternalApi};
use crate::clock;
use crate::metrics::Metrics;
use crate::traces;

/// Agents that are asked at once.
const CONCURRENCY: usize = 32;
/// As many as one call may hold.
const MAX_OBSERVATIONS: usize = 1000;

/// The poller.
pub struct AgentPoller {
    /// Knows the agents and takes the observations.
    pub api: Arc<InternalApi>,
    /// Asks them.
    pub agents: Arc<dyn AgentApi>,
    /// Where others reach this machine's gateway, if it has one.
    pub gateway_url: Option<String>,
    /// From tick to tick.
    pub interval: Duration,
    /// Counts polls.
    pub metrics: Arc<Metrics>,
}

impl AgentPoller {
    /// Runs until `stop`, and then leaves the agents to others. A tick begins after the one before ended.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let tick = async {
                let span = tracing::info_span!(target: traces::TARGET, "poll");
                if let Err(error) = self.tick().instrument(span).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "agents were not polled"
                    );
                }
                clock::pause(jittered(self.interval)).await;
            };
            tokio::select! {
                () = stop.cancelled() => break,
                () = tick => {}
            }
        }
        if let Err(error) = self.claim(0).await {
            tracing::debug!(error = &error as &dyn std::error::Error, "agents are left for later");
        }
    }

    /// The agents to poll for so long.
    async fn claim(&self, lease_seconds: u32) -> Result<Agents, CallError> {
        let claim = ClaimAgents { lease_seconds, gateway_url: self.gateway_url.clone() };
        self.api.post("/internal/agents/claim", &claim).await
    }

    async fn tick(&self) -> Result<(), CallError> {
        let Agents { agents } = self.claim(lease_seconds(self.interval)).await?;
        let observations: Vec<Observation> = futures::stream::iter(agents)
            .map(|route| observe(Arc::clone(&self.agents), route))
            .buffer_unordered(CONCURRENCY)
            .collect()
            .await;
        for observation in &observations {
            self.metrics.polled(observation.online);
        }
        for batch in observations.chunks(MAX_OBSERVATIONS) {
            self.api
                .tell("/internal/heartbeats", &Heartbeats { observations: batch.to_vec() })
                .await?;
        }
        Ok(())
    }
}

/// `/health`, then `/ready`, then `/status`: each means less without the one before.
async fn observe(agents: Arc<dyn AgentApi>, route: AgentRoute) -> Observation {
    let agent = AgentAddress {
        vmid: route.vmid,
        instance: route.instance_id,
        address: route.agent_address,
        machine: route.machine,
    };
    let mut observation = Observation {
        vmid: route.vmid,
        instance_id: route.instance_id,
        online: false,
        ready: false,
        readiness: None,
        status: None,
        error: None,
        seen_at_ms: clock::unix_ms(),
    };
    if let Err(fault) = agents.health(&agent).await {
        observation.error = Some(fault.to_string());
        return observation;
    }
    observation.online = true;
    match agents.ready(&agent).await {
        Ok(readiness) => {
            observation.ready = readiness.ready;
            observation.error.clone_from(&readiness.ready_error);
            observation.readiness = Some(readiness);
        }
        Err(fault) => observation.error = Some(fault.to_string()),
    }
    match agents.status(&agent).await {
        Ok(status) => observation.status = Some(status),
        Err(fault) => observation.error = Some(fault.to_string()),
    }
    observation
}

/// Two ticks may be late before another host-proxy takes the agents over, in whole seconds.
fn lease_seconds(interval: Duration) -> u32 {
    let seconds = (interval * 3).as_secs().clamp(2, 600);
    u32::try_from(seconds).unwrap_or(600)
}

/// A tenth more or less, so that several host-proxies do not ask in step.
fn jittered(interval: Duration) -> Duration {
    let random = Uuid::new_v4().as_u128() % 201;
    interval.mul_f64(0.9 + f64::from(u8::try_from(random).unwrap_or(100)) / 1000.0)
}

#[cfg(test)]
mod tests;
