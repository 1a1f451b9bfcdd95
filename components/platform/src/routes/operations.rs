//! Work for host-proxies. A lease is the right to go on with an operation: it lasts until another takes the
//! operation over, which its expiry permits but does not do.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use http::StatusCode;
use serde_json::json;
use zlh_agent_protocol::internal::{
    AllocatePorts, AllocatedPorts, ClaimOperation, ClaimedOperation, FinishOperation,
    OperationKind, OperationProgress, Outcome, RecordStep, UndoOperation,
};
use zlh_api::{ApiError, Json, Path};
use zlh_authn::HostProxy;
use zlh_ids::{LeaseId, OperationId};
use zlh_storage::audit::{self, Act};
use zlh_storage::{Database, Transaction};

use super::{Platform, unavailable};
use crate::store::operations::{self as store, Held, Status};

/// Longest lease, in seconds: a host-proxy that died is replaced within it.
const MAX_LEASE_SECONDS: u32 = 600;
/// Most operations that one host-proxy works on at once.
const MAX_WORKING_ON: usize = 1_000;
/// Most ports of one container.
const MAX_PORTS: u16 = 16;

pub(super) fn router() -> Router<Platform> {
    Router::new()
        .route("/internal/operations/claim", post(claim))
        .route("/internal/operations/{id}/heartbeat", post(heartbeat))
        .route("/internal/operations/{id}/ports", post(allocate_ports))
        .route("/internal/operations/{id}/steps", post(record_step))
        .route("/internal/operations/{id}/undo", post(undo))
        .route("/internal/operations/{id}/finish", post(finish))
}

/// Hands out the oldest operation that waits for somebody.
async fn claim(
    State(platform): State<Platform>,
    _: HostProxy,
    Json(body): Json<ClaimOperation>,
) -> Result<Json<ClaimedOperation>, ApiError> {
    // Parse.
    let now_ms = (platform.clock)();
    if !(1..=64).contains(&body.owner.len()) {
        return Err(ApiError::field("owner", "1 to 64 bytes"));
    }
    if body.working_on.len() > MAX_WORKING_ON {
        return Err(ApiError::field("workingOn", format!("at most {MAX_WORKING_ON}")));
    }
    let expires_at_ms = lease_end(now_ms, body.lease_seconds)?;

    // Act.
    let tx = begin(&platform.database).await?;
    let waiting =
        store::waiting(&tx, &body.owner, &body.working_on, now_ms).await.map_err(unavailable)?;
    let Some(id) = waiting else {
        return Ok(Json(ClaimedOperation { operation: None }));
    };
    let operation =
        store::lease(&tx, id, &body.owner, now_ms, expires_at_ms).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(operation.id = %id, host.name = body.owner, "handed out an operation");

    Ok(Json(ClaimedOperation { operation: Some(operation) }))
}

/// Extends a lease.
async fn heartbeat(
    State(platform): State<Platform>,
    _: HostProxy,
    Path(id): Path<OperationId>,
    Json(body): Json<OperationProgress>,
) -> Result<StatusCode, ApiError> {
    let now_ms = (platform.clock)();
    let expires_at_ms = lease_end(now_ms, body.lease_seconds)?;
    let tx = begin(&platform.database).await?;
    held(&tx, id, body.lease).await?;
    store::extend(&tx, id, expires_at_ms, body.message, now_ms).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Reserves ports for the operation's container.
async fn allocate_ports(
    State(platform): State<Platform>,
    _: HostProxy,
    Path(id): Path<OperationId>,
    Json(body): Json<AllocatePorts>,
) -> Result<Json<AllocatedPorts>, ApiError> {
    // Parse.
    if !(1..=MAX_PORTS).contains(&body.count) {
        return Err(ApiError::field("count", format!("1 to {MAX_PORTS}")));
    }

    // Authorise.
    let tx = begin(&platform.database).await?;
    let operation = held(&tx, id, body.lease).await?;

    // Act.
    let mut ports = store::ports_of(&tx, operation.instance_id).await.map_err(unavailable)?;
    let missing = usize::from(body.count).saturating_sub(ports.len());
    if missing > 0 {
        let (taken, last_given) = store::taken_ports(&tx).await.map_err(unavailable)?;
        let new = platform
            .port_range
            .next_free(last_given, &taken, missing)
            .ok_or_else(|| ApiError::unavailable("there are not enough free ports"))?;
        store::add_ports(&tx, operation.instance_id, &new, (platform.clock)())
            .await
            .map_err(unavailable)?;
        ports = store::ports_of(&tx, operation.instance_id).await.map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
    }
    Ok(Json(AllocatedPorts { ports }))
}

/// Records a step that is about to act.
async fn record_step(
    State(platform): State<Platform>,
    _: HostProxy,
    Path(id): Path<OperationId>,
    Json(body): Json<RecordStep>,
) -> Result<StatusCode, ApiError> {
    if !(1..=64).contains(&body.step.len()) {
        return Err(ApiError::field("step", "1 to 64 bytes"));
    }
    let tx = begin(&platform.database).await?;
    held(&tx, id, body.lease).await?;
    store::add_step(&tx, id, &body.step, (platform.clock)()).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

/// Turns a creation around: from now on its steps are undone.
async fn undo(
    State(platform): State<Platform>,
    _: HostProxy,
    Path(id): Path<OperationId>,
    Json(body): Json<UndoOperation>,
) -> Result<StatusCode, ApiError> {
    let tx = begin(&platform.database).await?;
    let operation = held(&tx, id, body.lease).await?;
    if operation.kind == OperationKind::Delete {
        return Err(ApiError::Invalid {
            field: None,
            message: "a deletion is not undone".to_owned(),
        });
    }
    store::turn_around(&tx, id, &body.error, (platform.clock)()).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    tracing::warn!(operation.id = %id, vmid = %operation.vmid, "an operation failed and is being undone");

    Ok(StatusCode::NO_CONTENT)
}

/// Ends an operation.
async fn finish(
    State(platform): State<Platform>,
    host: HostProxy,
    Path(id): Path<OperationId>,
    Json(body): Json<FinishOperation>,
) -> Result<StatusCode, ApiError> {
    // Authorise.
    let now_ms = (platform.clock)();
    let tx = begin(&platform.database).await?;
    let operation =
        store::leased(&tx, id, body.lease).await.map_err(unavailable)?.ok_or_else(lease_lost)?;
    let ending = Ending::new(operation.kind, &body.outcome)?;
    if operation.status == ending.status() {
        return Ok(StatusCode::NO_CONTENT);
    }
    if operation.status != ending.comes_after() {
        return Err(ApiError::conflict(format!("the operation is {}", operation.status.as_str())));
    }

    // Act.
    let Held { vmid, instance_id, .. } = operation;
    match &body.outcome {
        Outcome::Created(placement) => store::activate(&tx, instance_id, placement, now_ms).await,
        Outcome::Deleted => store::archive(&tx, instance_id, "deleted", now_ms).await,
        Outcome::Undone => {
            let reason = operation.error.as_deref().unwrap_or("undone");
            store::archive(&tx, instance_id, reason, now_ms).await
        }
    }
    .map_err(unavailable)?;
    store::end(&tx, id, ending.status(), now_ms).await.map_err(unavailable)?;
    store::forget_ended(&tx, now_ms).await.map_err(unavailable)?;
    let act = Act {
        actor: &host.name,
        action: "operation.finish",
        target: &vmid.to_string(),
        detail: json!({
            "operationId": id,
            "instanceId": instance_id,
            "kind": operation.kind,
            "status": ending.status().as_str(),
        }),
        at_ms: now_ms,
    };
    audit::append(&tx, &act).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(operation.id = %id, %vmid, status = ending.status().as_str(), "an operation ended");

    // What is left in the cache names a life that has ended, so nobody believes it.
    if !matches!(ending, Ending::Created) && platform.agents.remove(vmid).await.is_err() {
        tracing::warn!(%vmid, "an agent that is gone could not be removed from the cache");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// How an operation of its kind ends.
#[derive(Clone, Copy)]
enum Ending {
    Created,
    Undone,
    Deleted,
}

impl Ending {
    fn new(kind: OperationKind, outcome: &Outcome) -> Result<Self, ApiError> {
        match (kind, outcome) {
            (OperationKind::Create, Outcome::Created(_)) => Ok(Self::Created),
            (OperationKind::Create, Outcome::Undone) => Ok(Self::Undone),
            (OperationKind::Delete, Outcome::Deleted) => Ok(Self::Deleted),
            _ => Err(ApiError::field("outcome", "an operation of this kind does not end so")),
        }
    }

    fn status(self) -> Status {
        match self {
            Self::Created | Self::Deleted => Status::Succeeded,
            Self::Undone => Status::Failed,
        }
    }

    fn comes_after(self) -> Status {
        match self {
            Self::Created | Self::Deleted => Status::Running,
            Self::Undone => Status::Undoing,
        }
    }
}

async fn begin(database: &Database) -> Result<Transaction, ApiError> {
    database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)
}

/// The operation, if it goes on under this lease.
async fn held(tx: &Transaction, id: OperationId, lease: LeaseId) -> Result<Held, ApiError> {
    let operation = store::leased(tx, id, lease).await.map_err(unavailable)?;
    operation
        .filter(|operation| matches!(operation.status, Status::Running | Status::Undoing))
        .ok_or_else(lease_lost)
}

fn lease_lost() -> ApiError {
    ApiError::conflict("the lease was lost")
}

fn lease_end(now_ms: i64, seconds: u32) -> Result<i64, ApiError> {
    if !(1..=MAX_LEASE_SECONDS).contains(&seconds) {
        return Err(ApiError::field("leaseSeconds", format!("1 to {MAX_LEASE_SECONDS}")));
    }
    Ok(now_ms.saturating_add(i64::from(seconds) * 1_000))
}
