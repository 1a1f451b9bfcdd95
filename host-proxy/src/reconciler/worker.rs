//! Works on one operation until it is finished, the lease is lost, or the components are gone.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;
use zlh_agent_protocol::internal::{Operation, OperationProgress, Outcome};

use super::driver::NodeDriver;
use super::job::{Halt, Job};
use super::{LEASE_SECONDS, OperationApi};
use crate::agent_client::AgentApi;
use crate::clock::pause;
use crate::metrics::Metrics;

/// Before an interrupted operation is claimed again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);
/// Three chances per lease.
const HEARTBEAT: Duration = Duration::from_secs(LEASE_SECONDS as u64 / 3);

/// What every worker uses.
pub struct Worker {
    /// Keeps the record.
    pub api: Arc<dyn OperationApi>,
    /// Makes containers.
    pub driver: Arc<dyn NodeDriver>,
    /// Speaks to their agents.
    pub agents: Arc<dyn AgentApi>,
    /// How long to wait, and for what.
    pub settings: WorkerSettings,
    /// Counts what ended.
    pub metrics: Arc<Metrics>,
}

/// How long to wait, and for what.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// Until an agent answers.
    pub agent_deadline: Duration,
    /// Until a workload is ready.
    pub ready_deadline: Duration,
    /// Where agents fetch artifacts.
    pub artifact_url: String,
}

impl Worker {
    /// Works on the operation. May be dropped at any await, and then goes on after the next claim.
    pub async fn work(&self, operation: Operation) {
        let (say, said) = watch::channel(None);
        let mut job = Job::new(self, &operation, say);
        let ended = tokio::select! {
            ended = job.run() => ended,
            halt = self.heartbeats(&operation, said) => Err(halt),
        };
        let id = operation.id;
        match ended {
            Ok(outcome) => {
                let undone = outcome == Outcome::Undone;
                self.metrics.operation_ended(undone);
                tracing::info!(operation.id = %id, vmid = %operation.vmid, undone, "operation ended");
            }
            Err(Halt::LeaseLost) => {
                tracing::info!(operation.id = %id, "operation is another's now")
            }
            Err(Halt::Interrupted(error)) => {
                tracing::warn!(
                    operation.id = %id, error = &error as &dyn std::error::Error, "operation interrupted"
                );
                pause(RETRY_PAUSE).await;
            }
            Err(Halt::Failed(reason)) => {
                tracing::error!(operation.id = %id, reason, "operation stuck")
            }
        }
    }

    /// Keeps the lease and tells what is being done; ends when the lease does.
    async fn heartbeats(
        &self,
        operation: &Operation,
        mut said: watch::Receiver<Option<String>>,
    ) -> Halt {
        let lease = Duration::from_secs(LEASE_SECONDS.into());
        let mut held_since = Instant::now();
        loop {
            // News are told at once, silence after a while.
            if let Ok(Err(_)) = tokio::time::timeout(HEARTBEAT, said.changed()).await {
                std::future::pending::<()>().await;
            }
            let message = said.borrow_and_update().clone();
            let asked = Instant::now();
            let call =
                OperationProgress { lease: operation.lease, lease_seconds: LEASE_SECONDS, message };
            match self.api.heartbeat(operation.id, &call).await {
                Ok(()) => held_since = asked,
                Err(error) if error.status() == Some(StatusCode::CONFLICT) => {
                    return Halt::LeaseLost;
                }
                Err(error) if held_since.elapsed() >= lease => return Halt::Interrupted(error),
                Err(_) => {}
            }
        }
    }
}
