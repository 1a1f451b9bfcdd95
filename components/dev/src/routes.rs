//! Handlers.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::Method;
use serde_json::json;
use zlh_agent_protocol::agent::CodeServerState;
use zlh_agents::{Agent, Agents, Refused};
use zlh_api::{ApiError, Conflict, Failure, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Actor;
use zlh_guest::Clock;
use zlh_ids::Vmid;
use zlh_storage::audit::{self, Act};
use zlh_storage::{Database, StoreError};

use crate::model::Verb;
use crate::store;

/// What the handlers work with.
#[derive(Clone)]
pub struct Dev {
    /// Where everything is stored.
    pub database: Database,
    /// The way to agents.
    pub agents: Agents,
    /// The time.
    pub clock: Clock,
}

zlh_api::operations!(pub Dev: start_code_server, stop_code_server, restart_code_server);

/// The routes of this component.
pub fn router(dev: Dev) -> Router {
    routes().with_state(dev)
}

/// Lets code-server run in one's own dev container.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/codeserver/start",
    tag = "dev containers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 200, body = CodeServerState, description = "It is so"),
        (status = 202, body = CodeServerState, description = "It goes on: the server's status tells"),
        Unauthenticated, NotFound, Conflict, Failure, Refused
    ),
)]
async fn start_code_server(
    State(dev): State<Dev>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Response, ApiError> {
    control_code_server(dev, actor, vmid, Verb::Start).await
}

/// Stops code-server in one's own dev container.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/codeserver/stop",
    tag = "dev containers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 200, body = CodeServerState, description = "It is so"),
        (status = 202, body = CodeServerState, description = "It goes on: the server's status tells"),
        Unauthenticated, NotFound, Conflict, Failure, Refused
    ),
)]
async fn stop_code_server(
    State(dev): State<Dev>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Response, ApiError> {
    control_code_server(dev, actor, vmid, Verb::Stop).await
}

/// Stops code-server in one's own dev container if it runs, then starts it.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/codeserver/restart",
    tag = "dev containers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 200, body = CodeServerState, description = "It is so"),
        (status = 202, body = CodeServerState, description = "It goes on: the server's status tells"),
        Unauthenticated, NotFound, Conflict, Failure, Refused
    ),
)]
async fn restart_code_server(
    State(dev): State<Dev>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Response, ApiError> {
    control_code_server(dev, actor, vmid, Verb::Restart).await
}

async fn control_code_server(
    dev: Dev,
    actor: Actor,
    vmid: Vmid,
    verb: Verb,
) -> Result<Response, ApiError> {
    // Authorise.
    let tx = dev.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    let container = store::own_dev(&tx, actor.user_id, vmid).await.map_err(unavailable)?;
    let container = container.ok_or(ApiError::NotFound)?;
    let address = container
        .agent_address
        .ok_or_else(|| ApiError::conflict("the dev container is still being created"))?;

    // Act. What cannot be recorded is not done, so the record comes first.
    let act = Act {
        actor: &actor.user_id.to_string(),
        action: &format!("codeserver.{}", verb.as_str()),
        target: &vmid.to_string(),
        detail: json!({ "instanceId": container.instance_id }),
        at_ms: (dev.clock)(),
    };
    audit::append(&tx, &act).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    let agent = Agent { vmid, instance_id: container.instance_id, address };
    let path = format!("/dev/codeserver/{}", verb.as_str());
    let doing = format!("{} code-server", verb.as_str());
    let (status, state): (_, CodeServerState) =
        dev.agents.ask(&agent, (Method::POST, &path), Bytes::new(), &doing).await?;

    // Respond.
    Ok((status, Json(state)).into_response())
}

fn unavailable(error: StoreError) -> ApiError {
    ApiError::unavailable(error)
}

#[cfg(test)]
mod tests;
