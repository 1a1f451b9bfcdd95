//! Handlers.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{Method, Request, StatusCode};
use serde_json::json;
use utoipa::IntoResponses;
use zlh_agent_protocol::agent::{CodeServerState, agent_token};
use zlh_api::{ApiError, Conflict, ErrorBody, Failure, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Actor;
use zlh_guest::Clock;
use zlh_ids::Vmid;
use zlh_storage::audit::{self, Act};
use zlh_storage::{Database, StoreError};

use crate::model::Verb;
use crate::store;

/// Carries requests to agents; follows no redirect.
#[async_trait]
pub trait AgentClient: Send + Sync + 'static {
    /// An answer of any status, or [`ApiError::Unavailable`].
    async fn call(&self, request: Request<Bytes>) -> Result<http::Response<Bytes>, ApiError>;
}

/// What the handlers work with.
#[derive(Clone)]
pub struct Dev {
    /// Where everything is stored.
    pub database: Database,
    /// The way to agents.
    pub agents: Arc<dyn AgentClient>,
    /// What agents' tokens are made from.
    pub agent_token_secret: String,
    /// The time.
    pub clock: Clock,
}

/// What becomes of an agent that does not do it.
#[derive(IntoResponses)]
pub enum Refused {
    /// 502.
    #[response(status = 502, description = "The agent did not answer as agents do")]
    Broken(ErrorBody),
    /// Whatever status the agent refused with.
    #[response(status = "default", description = "The agent refused; `details` has its words")]
    ByAgent(ErrorBody),
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
    let token = agent_token(dev.agent_token_secret.as_bytes(), vmid, container.instance_id);
    let request = Request::builder()
        .method(Method::POST)
        .uri(format!("http://{address}/dev/codeserver/{}", verb.as_str()))
        .header(AUTHORIZATION, format!("Bearer {token}"))
        .body(Bytes::new())
        .map_err(ApiError::internal)?;
    let answer = dev.agents.call(request).await?;
    let status = answer.status();
    tracing::info!(%vmid, verb = verb.as_str(), status = status.as_u16(), "an agent answered");

    // Respond.
    match serde_json::from_slice::<CodeServerState>(answer.body()) {
        Ok(state) if status.is_success() => Ok((status, Json(state)).into_response()),
        _ => Err(ApiError::Agent {
            status: forwarded(status),
            message: format!("the agent could not {} code-server", verb.as_str()),
            details: serde_json::from_slice(answer.body()).unwrap_or_default(),
        }),
    }
}

/// The status of a refusal as the customer sees it. That the agent does not accept our credential, sends us
/// elsewhere or breaks its contract is not the customer's doing.
fn forwarded(status: StatusCode) -> StatusCode {
    let refused = status.is_client_error() || status.is_server_error();
    if refused && !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        status
    } else {
        StatusCode::BAD_GATEWAY
    }
}

fn unavailable(error: StoreError) -> ApiError {
    ApiError::unavailable(error)
}

#[cfg(test)]
mod tests;
