//! Which agents there are, and what polling them found.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use http::StatusCode;
use zlh_agent_protocol::internal::{Agents, Heartbeats};
use zlh_api::{ApiError, Json};
use zlh_authn::HostProxy;

use super::{Platform, unavailable};
use crate::store;

/// Most observations that one call may bring.
const MAX_OBSERVATIONS: usize = 1_000;

pub(super) fn router() -> Router<Platform> {
    Router::new()
        .route("/internal/agents", get(list_agents))
        .route("/internal/heartbeats", post(record_heartbeats))
}

/// Lists the agents to poll.
async fn list_agents(
    State(platform): State<Platform>,
    _: HostProxy,
) -> Result<Json<Agents>, ApiError> {
    let db = platform.database.open().await.map_err(unavailable)?;
    let agents = store::agents(&db).await.map_err(unavailable)?;
    Ok(Json(Agents { agents }))
}

/// Keeps what polling found, unless the container has gone or begun another life since.
async fn record_heartbeats(
    State(platform): State<Platform>,
    _: HostProxy,
    Json(body): Json<Heartbeats>,
) -> Result<StatusCode, ApiError> {
    let mut observations = body.observations;
    if observations.len() > MAX_OBSERVATIONS {
        return Err(ApiError::field(
            "observations",
            format!("at most {MAX_OBSERVATIONS} at a time"),
        ));
    }
    let db = platform.database.open().await.map_err(unavailable)?;
    let current = store::instances(&db).await.map_err(unavailable)?;
    observations.retain(|seen| current.contains(&(seen.vmid, seen.instance_id)));
    platform.agents.put(&observations).await?;
    Ok(StatusCode::NO_CONTENT)
}
