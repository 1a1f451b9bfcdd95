//! Which agents there are, and what polling them found.

use axum::Router;
use axum::extract::State;
use axum::routing::{get, post};
use http::StatusCode;
use zlh_agent_protocol::internal::{AgentRoute, Agents, ClaimAgents, Heartbeats};
use zlh_api::{ApiError, Json, Path};
use zlh_authn::HostProxy;
use zlh_ids::Vmid;

use super::{Platform, unavailable};
use crate::store::{self, shards};

/// Longest lease, in seconds: the agents of a host-proxy that died are polled by another within it.
const MAX_LEASE_SECONDS: u32 = 600;
/// Longest URL of a gateway, in bytes.
const MAX_URL_BYTES: usize = 256;
/// Most observations that one call may bring.
const MAX_OBSERVATIONS: usize = 1_000;

pub(super) fn router() -> Router<Platform> {
    Router::new()
        .route("/internal/agents", get(list_agents))
        .route("/internal/agents/{vmid}", get(find_agent))
        .route("/internal/agents/claim", post(claim_agents))
        .route("/internal/heartbeats", post(record_heartbeats))
}

/// Lists all agents.
async fn list_agents(
    State(platform): State<Platform>,
    _: HostProxy,
) -> Result<Json<Agents>, ApiError> {
    let db = platform.database.open().await.map_err(unavailable)?;
    let agents = store::agents(&db).await.map_err(unavailable)?;
    Ok(Json(Agents { agents }))
}

/// Says where one container's listeners are.
async fn find_agent(
    State(platform): State<Platform>,
    _: HostProxy,
    Path(vmid): Path<Vmid>,
) -> Result<Json<AgentRoute>, ApiError> {
    let db = platform.database.open().await.map_err(unavailable)?;
    let agent = store::agent(&db, vmid).await.map_err(unavailable)?;
    agent.map(Json).ok_or(ApiError::NotFound)
}

/// Lists the agents that the calling host-proxy shall poll, and nobody else until its lease ends.
async fn claim_agents(
    State(platform): State<Platform>,
    host: HostProxy,
    Json(body): Json<ClaimAgents>,
) -> Result<Json<Agents>, ApiError> {
    let now_ms = (platform.clock)();
    if body.lease_seconds > MAX_LEASE_SECONDS {
        return Err(ApiError::field("leaseSeconds", format!("at most {MAX_LEASE_SECONDS}")));
    }
    let gateway_url = body.gateway_url.as_deref();
    if gateway_url.is_some_and(|url| url.len() > MAX_URL_BYTES) {
        return Err(ApiError::field("gatewayUrl", format!("at most {MAX_URL_BYTES} bytes")));
    }
    let db = platform.database.open().await.map_err(unavailable)?;
    let tx = db.begin().await.map_err(unavailable)?;
    store::set_gateway(&tx, host.id(), gateway_url).await.map_err(unavailable)?;
    if body.lease_seconds == 0 {
        shards::release(&tx, &host.name).await.map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
        return Ok(Json(Agents { agents: Vec::new() }));
    }
    let alive_until = now_ms.saturating_add(i64::from(body.lease_seconds) * 1000);
    let own = shards::claim(&tx, &host.name, now_ms, alive_until).await.map_err(unavailable)?;
    let mut agents = store::agents(&tx).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    agents.retain(|agent| own.contains(&(i64::from(agent.vmid.get()) % shards::SHARDS)));
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
