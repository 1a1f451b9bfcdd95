//! Handlers: here what anybody may ask, in [`agents`], [`audit`] and [`operations`] what host-proxies ask and tell.

use std::sync::Arc;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::post;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use serde::Serialize;
use utoipa::ToSchema;
use zlh_agent_protocol::internal::{Migrated, Observation};
use zlh_api::{ApiError, Failure, Json};
use zlh_authn::HostProxy;
use zlh_guest::{Clock, rfc3339};
use zlh_ids::Vmid;
use zlh_storage::{Database, StoreError};

use crate::model::PortRange;

mod agents;
mod audit;
mod operations;

/// What was last seen of each agent. A cache: it may be wiped at any moment.
#[async_trait]
pub trait AgentCache: Send + Sync + 'static {
    /// Replaces what is known of these agents.
    async fn put(&self, observations: &[Observation]) -> Result<(), ApiError>;

    /// Forgets an agent.
    async fn remove(&self, vmid: Vmid) -> Result<(), ApiError>;
}

/// What the handlers work with.
#[derive(Clone)]
pub struct Platform {
    /// Where everything is stored.
    pub database: Database,
    /// Where polling leaves its results.
    pub agents: Arc<dyn AgentCache>,
    /// The JWK set of our tokens' public keys.
    pub public_keys: String,
    /// The ports that containers are given.
    pub port_range: PortRange,
    /// The time.
    pub clock: Clock,
}

zlh_api::operations!(pub Platform: health, public_keys, description);

/// The routes of this component, those for host-proxies included.
pub fn router(platform: Platform) -> Router {
    routes()
        .route("/internal/migrate", post(migrate))
        .merge(agents::router())
        .merge(audit::router())
        .merge(operations::router())
        .with_state(platform)
}

#[derive(Debug, Serialize, ToSchema)]
struct Health {
    status: &'static str,
    service: &'static str,
    time: String,
}

/// Says that requests reach a component and are answered, and nothing more.
#[utoipa::path(
    get,
    path = "/api/health",
    tag = "platform",
    responses((status = 200, body = Health), Failure),
)]
async fn health(State(platform): State<Platform>) -> Json<Health> {
    Json(Health { status: "ok", service: "zlh", time: rfc3339((platform.clock)()) })
}

/// Answers the public keys.
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    tag = "platform",
    responses((status = 200, body = Object, description = "A JWK set (RFC 7517)"), Failure),
)]
async fn public_keys(State(platform): State<Platform>) -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "public, max-age=300")];
    (headers, platform.public_keys)
}

/// Describes the public operations (OpenAPI 3.1).
#[utoipa::path(
    get,
    path = "/api/openapi.json",
    tag = "platform",
    responses((status = 200, body = Object, description = "This document"), Failure),
)]
async fn description() -> impl IntoResponse {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "public, max-age=300")];
    (headers, include_str!("../../../docs/openapi.json"))
}

/// How long migrations may be begun in one call, in milliseconds: a third of what hosts give a request. One
/// that takes longer by itself than the rest is written as several.
const MIGRATING_MS: i64 = 10_000;

/// Brings the schema up to date, or begins to; works before there is any.
async fn migrate(
    State(platform): State<Platform>,
    host: HostProxy,
) -> Result<Json<Migrated>, ApiError> {
    let begun_ms = (platform.clock)();
    let in_time = || (platform.clock)() - begun_ms < MIGRATING_MS;
    let done = zlh_storage::migrate_while(&platform.database, begun_ms, in_time)
        .await
        .map_err(unavailable)?;
    tracing::info!(host.name = host.name, schema.version = done.version, "migrated the database");

    Ok(Json(Migrated { applied: done.applied, version: done.version, complete: done.complete }))
}

fn unavailable(error: StoreError) -> ApiError {
    ApiError::unavailable(error)
}

#[cfg(test)]
mod tests;
