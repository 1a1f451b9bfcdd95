//! Drives containers to what customers asked for: claims operations, runs their steps, and undoes what
//! cannot be completed. Everything that must survive a crash is with the components.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;
use zlh_agent_protocol::internal::{
    Agents, AllocatePorts, AllocatedPorts, ClaimOperation, ClaimedOperation, FinishOperation,
    OperationProgress, RecordStep, UndoOperation,
};
use zlh_ids::OperationId;

use crate::api::{CallError, InternalApi};
use crate::traces;

mod board;
pub mod driver;
mod job;
pub mod local;
mod step;
pub mod supervisor;
#[cfg(test)]
mod tests;
mod worker;

pub use board::Board;
pub use worker::{Worker, WorkerSettings};

/// Operations at once. Each is mostly waiting; unpacking a runtime keeps a core busy.
const CONCURRENCY: usize = 4;
/// How soon a new operation is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// A crashed host-proxy of another name is taken over from after this.
pub(crate) const LEASE_SECONDS: u32 = 30;

/// What the reconciler asks of the component `platform`.
#[async_trait]
pub trait OperationApi: Send + Sync + 'static {
    /// The next operation to work on.
    async fn claim(&self, call: &ClaimOperation) -> Result<ClaimedOperation, CallError>;
    /// Still at it.
    async fn heartbeat(&self, id: OperationId, call: &OperationProgress) -> Result<(), CallError>;
    /// Reserves ports.
    async fn ports(
        &self,
        id: OperationId,
        call: &AllocatePorts,
    ) -> Result<AllocatedPorts, CallError>;
    /// A step is about to act.
    async fn step(&self, id: OperationId, call: &RecordStep) -> Result<(), CallError>;
    /// From now on it is being undone.
    async fn undo(&self, id: OperationId, call: &UndoOperation) -> Result<(), CallError>;
    /// The last word.
    async fn finish(&self, id: OperationId, call: &FinishOperation) -> Result<(), CallError>;
    /// Every container that has an agent.
    async fn agents(&self) -> Result<Agents, CallError>;
}

#[async_trait]
impl OperationApi for InternalApi {
    async fn claim(&self, call: &ClaimOperation) -> Result<ClaimedOperation, CallError> {
        self.post("/internal/operations/claim", call).await
    }

    async fn heartbeat(&self, id: OperationId, call: &OperationProgress) -> Result<(), CallError> {
        tell(self, id, "heartbeat", call).await
    }

    async fn ports(
        &self,
        id: OperationId,
        call: &AllocatePorts,
    ) -> Result<AllocatedPorts, CallError> {
        self.post(&format!("/internal/operations/{id}/ports"), call).await
    }

    async fn step(&self, id: OperationId, call: &RecordStep) -> Result<(), CallError> {
        tell(self, id, "steps", call).await
    }

    async fn undo(&self, id: OperationId, call: &UndoOperation) -> Result<(), CallError> {
        tell(self, id, "undo", call).await
    }

    async fn finish(&self, id: OperationId, call: &FinishOperation) -> Result<(), CallError> {
        tell(self, id, "finish", call).await
    }

    async fn agents(&self) -> Result<Agents, CallError> {
        self.get("/internal/agents").await
    }
}

async fn tell<I: Serialize + Sync>(
    api: &InternalApi,
    id: OperationId,
    what: &str,
    call: &I,
) -> Result<(), CallError> {
    api.tell(&format!("/internal/operations/{id}/{what}"), call).await
}

/// Claims operations and gives each a worker.
pub struct Reconciler {
    /// Name of this host-proxy.
    pub owner: String,
    /// What every worker uses.
    pub worker: Arc<Worker>,
    /// What is being worked on.
    pub board: Arc<Board>,
}

impl Reconciler {
    /// Runs until `stop`. Work that is cut off goes on after the next start.
    pub async fn run(self, stop: CancellationToken) {
        let mut workers: JoinSet<()> = JoinSet::new();
        loop {
            while workers.try_join_next().is_some() {}
            let claimed = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                claimed = self.claim(workers.len()) => claimed,
            };
            if let Some(work) = claimed {
                workers.spawn(work);
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = workers.join_next(), if !workers.is_empty() => {}
                () = crate::clock::pause(POLL_INTERVAL) => {}
            }
        }
        workers.shutdown().await;
    }

    async fn claim(&self, running: usize) -> Option<impl Future<Output = ()> + Send + use<>> {
        if running >= CONCURRENCY {
            self.board.set_drained(false);
            return None;
        }
        let call = ClaimOperation {
            owner: self.owner.clone(),
            lease_seconds: LEASE_SECONDS,
            working_on: self.board.operations(),
        };
        let claimed = self.worker.api.claim(&call).await;
        let operation = match claimed {
            Ok(ClaimedOperation { operation: Some(operation) }) => operation,
            Ok(ClaimedOperation { operation: None }) => {
                self.board.set_drained(true);
                return None;
            }
            Err(error) => {
                self.board.set_drained(false);
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "no operations were claimed"
                );
                return None;
            }
        };
        let place = self.board.begin(operation.id, operation.vmid);
        let worker = Arc::clone(&self.worker);
        let span = tracing::info_span!(
            target: traces::TARGET,
            "operation",
            operation.id = %operation.id,
            vmid = %operation.vmid,
        );
        Some(async move {
            worker.work(operation).instrument(span).await;
            drop(place);
        })
    }
}
