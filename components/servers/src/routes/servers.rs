//! One's own servers in the shape that the portal shows: one state of record, container and agent together.

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::Serialize;
use utoipa::ToSchema;
use zlh_agent_protocol::agent::Status;
use zlh_agent_protocol::config::CrashClass;
use zlh_agent_protocol::internal::{Observation, Workload};
use zlh_api::{ApiError, Failure, Invalid, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Actor;
use zlh_guest::rfc3339;
use zlh_ids::Vmid;

use super::instances::{Listed, Page, list_own, online, own_instance};
use super::{Servers, unavailable};
use crate::model::Instance;

zlh_api::operations!(pub(super) Servers: list_servers, get_status);

/// What the portal sees of any server.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct LiveState {
    id: Vmid,
    name: String,
    /// `GAME` or `DEV`.
    category: &'static str,
    /// A dev container's runtime, or the game.
    runtime: String,
    /// The game's variant; dev containers have none.
    flavor: Option<String>,
    version: String,
    host_status: &'static str,
    status: &'static str,
    agent_status: &'static str,
    install_step: Option<String>,
    crash_count: u32,
    last_seen: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ServerList {
    servers: Vec<LiveState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct StatusBody {
    #[serde(flatten)]
    live: LiveState,
    vmid: Vmid,
    state: &'static str,
    ready: bool,
    ready_source: Option<String>,
    ready_error: Option<String>,
    last_ready_at: Option<String>,
    process_running: bool,
    uptime_seconds: Option<u64>,
    /// Where players reach a game.
    ports: Vec<u16>,
    suspended: bool,
    #[serde(flatten)]
    crash: CrashFacts,
    operation_in_progress: bool,
    operation_type: Option<String>,
    code_server_running: bool,
    code_server_installed: bool,
    dev_provisioned: bool,
    runtime_installed: bool,
    workspace_root: Option<String>,
    server_root: Option<String>,
    error: Option<String>,
}

/// How a game server last ended by itself, and when it is started again.
#[derive(Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CrashFacts {
    last_crash_time: Option<String>,
    last_crash_exit_code: Option<i32>,
    last_crash_signal: Option<i32>,
    last_crash_uptime_seconds: Option<u64>,
    last_crash_classification: Option<CrashClass>,
    last_crash_log_tail: Vec<String>,
    next_start_at: Option<String>,
}

impl CrashFacts {
    fn of(status: &Status) -> Self {
        let next_start_at = status.next_start_at.clone();
        let Some(crash) = status.last_crash.clone() else {
            return Self { next_start_at, ..Self::default() };
        };
        Self {
            last_crash_time: Some(crash.time),
            last_crash_exit_code: crash.exit_code,
            last_crash_signal: crash.signal,
            last_crash_uptime_seconds: Some(crash.uptime_seconds),
            last_crash_classification: Some(crash.class),
            last_crash_log_tail: crash.log_tail,
            next_start_at,
        }
    }
}

/// Lists one's own servers of both kinds, newest last.
#[utoipa::path(
    get,
    path = "/api/servers",
    tag = "servers",
    params(Page),
    security(("token" = [])),
    responses((status = 200, body = ServerList), Invalid, Unauthenticated, Failure),
)]
async fn list_servers(
    State(servers): State<Servers>,
    actor: Actor,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<ServerList>, ApiError> {
    let Listed { instances, observations, next_cursor } =
        list_own(&servers, actor.user_id, page).await?;
    let now_ms = (servers.clock)();
    let rows = instances
        .iter()
        .map(|instance| live_state(instance, observations.get(&instance.vmid), now_ms));
    Ok(Json(ServerList { servers: rows.collect(), next_cursor }))
}

/// Shows what the agent of one's own server last said.
#[utoipa::path(
    get,
    path = "/api/servers/{vmid}/status",
    tag = "servers",
    params(("vmid" = Vmid, Path)),
    security(("token" = [])),
    responses((status = 200, body = StatusBody), Unauthenticated, NotFound, Failure),
)]
async fn get_status(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Json<StatusBody>, ApiError> {
    let db = servers.database.open().await.map_err(unavailable)?;
    let instance = own_instance(&db, actor.user_id, vmid).await?;
    let observations = servers.agents.observations(&[vmid]).await;
    Ok(Json(status_body(&instance, observations.get(&vmid), (servers.clock)())))
}

fn live_state(instance: &Instance, observation: Option<&Observation>, now_ms: i64) -> LiveState {
    let live = instance.live(observation, now_ms);
    let status = live.and_then(|seen| seen.status.as_ref());
    let (category, runtime, flavor, version) = match &instance.spec.workload {
        Workload::Game { game, variant, version, .. } => ("GAME", game, Some(variant), version),
        Workload::Dev { runtime, version, .. } => ("DEV", runtime, None, version),
    };
    LiveState {
        id: instance.vmid,
        name: instance.name.clone(),
        category,
        runtime: runtime.clone(),
        flavor: flavor.cloned(),
        version: version.clone(),
        // Where an agent answers, its container runs; nothing else is known about containers yet.
        host_status: online(live),
        status: instance.status(live),
        agent_status: online(live),
        install_step: status.and_then(|status| status.install_step.clone()),
        crash_count: status.map_or(0, |status| status.crash_count),
        last_seen: instance.last_seen(observation).map(|seen| rfc3339(seen.seen_at_ms)),
    }
}

fn status_body(instance: &Instance, observation: Option<&Observation>, now_ms: i64) -> StatusBody {
    let live = instance.live(observation, now_ms);
    let readiness = live.and_then(|seen| seen.readiness.as_ref());
    let status = live.and_then(|seen| seen.status.as_ref());
    StatusBody {
        live: live_state(instance, observation, now_ms),
        vmid: instance.vmid,
        state: instance.state.as_str(),
        ready: instance.ready(live),
        ready_source: readiness.and_then(|readiness| readiness.ready_source.clone()),
        ready_error: readiness.and_then(|readiness| readiness.ready_error.clone()),
        last_ready_at: status.and_then(|status| status.last_ready_at.clone()),
        process_running: status.is_some_and(|status| status.process_running),
        uptime_seconds: status.and_then(|status| status.uptime_seconds),
        ports: instance.ports.clone(),
        suspended: instance.suspended,
        crash: status.map(CrashFacts::of).unwrap_or_default(),
        operation_in_progress: status.is_some_and(|status| status.operation_in_progress),
        operation_type: status.and_then(|status| status.operation_type.clone()),
        code_server_running: status.is_some_and(|status| status.code_server_running),
        code_server_installed: status.is_some_and(|status| status.code_server_installed),
        dev_provisioned: status.is_some_and(|status| status.dev_provisioned),
        runtime_installed: status.is_some_and(|status| status.runtime_installed),
        workspace_root: status.and_then(|status| status.workspace_root.clone()),
        server_root: status.and_then(|status| status.server_root.clone()),
        error: instance
            .last_seen(observation)
            .and_then(|seen| seen.error.clone())
            .or_else(|| status.and_then(|status| status.error.clone())),
    }
}
