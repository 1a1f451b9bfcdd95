//! Handlers: here operations, in [`instances`] and [`servers`] what they are about, in [`catalogue`], [`create`]
//! and [`delete`] how an instance comes and goes, in [`game`] and [`host`] how it is turned on and off.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use http::header::LOCATION;
use http::{HeaderName, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use zlh_agent_protocol::artifact::DevCatalog;
use zlh_agent_protocol::game::GameCatalog;
use zlh_agent_protocol::internal::{Observation, OperationKind};
use zlh_agents::Agents;
use zlh_api::{ApiError, Failure, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Actor;
use zlh_guest::{Clock, rfc3339};
use zlh_ids::{OperationId, Vmid};
use zlh_storage::{Database, StoreError};

use crate::store;

mod catalogue;
mod create;
mod delete;
mod game;
mod host;
mod instances;
mod servers;
mod suspension;

/// What was last seen of each agent. A cache: it may be wiped at any moment.
#[async_trait]
pub trait AgentCache: Send + Sync + 'static {
    /// What is known of these; a cache that does not answer is an empty one.
    async fn observations(&self, vmids: &[Vmid]) -> HashMap<Vmid, Observation>;
}

/// The artifact store's catalogue.
#[async_trait]
pub trait Catalog: Send + Sync + 'static {
    /// What dev containers can have, or [`ApiError::Unavailable`].
    async fn dev(&self) -> Result<DevCatalog, ApiError>;

    /// What game servers can run, or [`ApiError::Unavailable`].
    async fn games(&self) -> Result<GameCatalog, ApiError>;
}

/// What the handlers work with.
#[derive(Clone)]
pub struct Servers {
    /// Where everything is stored.
    pub database: Database,
    /// Where polling leaves its results.
    pub agents: Arc<dyn AgentCache>,
    /// The way to agents.
    pub agent_calls: Agents,
    /// What can be installed.
    pub catalog: Arc<dyn Catalog>,
    /// Most instances of one customer.
    pub max_instances_per_user: u32,
    /// The time.
    pub clock: Clock,
}

zlh_api::operations!(
    pub Servers: get_operation;
    catalogue, create, delete, game, host, instances, servers, suspension
);

/// The routes of this component.
pub fn router(servers: Servers) -> Router {
    routes().with_state(servers)
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Operation {
    id: OperationId,
    kind: OperationKind,
    vmid: Vmid,
    status: String,
    done: bool,
    phase: Option<String>,
    message: Option<String>,
    error: Option<String>,
    created_at: String,
    updated_at: String,
}

/// Says how far one's own operation is.
#[utoipa::path(
    get,
    path = "/api/operations/{id}",
    tag = "instances",
    params(("id" = OperationId, Path)),
    security(("token" = [])),
    responses((status = 200, body = Operation), Unauthenticated, NotFound, Failure),
)]
async fn get_operation(
    State(servers): State<Servers>,
    actor: Actor,
    Path(id): Path<OperationId>,
) -> Result<Json<Operation>, ApiError> {
    let db = servers.database.open().await.map_err(unavailable)?;
    let operation = store::own_operation(&db, actor.user_id, id).await.map_err(unavailable)?;
    let operation = operation.ok_or(ApiError::NotFound)?;
    Ok(Json(Operation {
        id,
        kind: operation.kind,
        vmid: operation.vmid,
        done: matches!(operation.status.as_str(), "succeeded" | "failed"),
        status: operation.status,
        phase: operation.phase,
        message: operation.message,
        error: operation.error,
        created_at: rfc3339(operation.created_at_ms),
        updated_at: rfc3339(operation.updated_at_ms),
    }))
}

/// Work that goes on after its request was answered.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Begun {
    operation_id: OperationId,
    status_url: String,
    vmid: Vmid,
}

type Accepted = (StatusCode, [(HeaderName, String); 1], Json<Begun>);

fn accepted(operation_id: OperationId, vmid: Vmid) -> Accepted {
    let status_url = format!("/api/operations/{operation_id}");
    let body = Begun { operation_id, status_url: status_url.clone(), vmid };
    (StatusCode::ACCEPTED, [(LOCATION, status_url)], Json(body))
}

fn unavailable(error: StoreError) -> ApiError {
    ApiError::unavailable(error)
}

#[cfg(test)]
mod tests;
