//! One's own instances: as they are recorded, with what their agents last said.

use std::collections::HashMap;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use zlh_agent_protocol::internal::{Observation, Workload};
use zlh_api::{ApiError, Failure, Invalid, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Actor;
use zlh_guest::rfc3339;
use zlh_ids::{ContainerType, UserId, Vmid};
use zlh_storage::Db;

use super::{Servers, unavailable};
use crate::model::{Cursor, Instance};
use crate::store;

/// Most instances of one page.
const MAX_PAGE: u32 = 100;

zlh_api::operations!(pub(super) Servers: list_instances, get_instance);

#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// `nextCursor` of the page before.
    #[param(pattern = "^-?[0-9]{1,18}[.][0-9]{1,9}$", nullable = false)]
    cursor: Option<String>,
    /// Most rows of the page.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 100, nullable = false)]
    limit: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Instances {
    ok: bool,
    rows: Vec<InstanceBody>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_cursor: Option<String>,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct InstanceBody {
    vmid: Vmid,
    id: Vmid,
    name: String,
    ctype: ContainerType,
    #[serde(flatten)]
    workload: WorkloadBody,
    version: String,
    #[serde(rename = "memoryMiB")]
    memory_mib: u32,
    cpu_cores: u32,
    state: &'static str,
    status: &'static str,
    ready: bool,
    agent_status: &'static str,
    install_step: Option<String>,
    last_seen: Option<String>,
    code_server_running: bool,
    created_at: String,
    ready_at: Option<String>,
    suspended: bool,
}

/// What it is for: the runtime of a dev container, or all that there is to a game.
#[derive(Debug, Serialize, ToSchema)]
struct WorkloadBody {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    runtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    game: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    variant: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    world: Option<String>,
    /// Where players reach it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    ports: Option<Vec<u16>>,
}

/// Lists one's own instances, newest last.
#[utoipa::path(
    get,
    path = "/api/instances",
    tag = "instances",
    params(Page),
    security(("token" = [])),
    responses((status = 200, body = Instances), Invalid, Unauthenticated, Failure),
)]
async fn list_instances(
    State(servers): State<Servers>,
    actor: Actor,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Json<Instances>, ApiError> {
    let Listed { instances, observations, next_cursor } =
        list_own(&servers, actor.user_id, page).await?;
    let now_ms = (servers.clock)();
    let rows = instances.into_iter().map(|instance| {
        let observation = observations.get(&instance.vmid);
        instance_body(instance, observation, now_ms)
    });
    Ok(Json(Instances { ok: true, rows: rows.collect(), next_cursor }))
}

/// A page of instances, with what is known of their agents.
pub(super) struct Listed {
    pub(super) instances: Vec<Instance>,
    pub(super) observations: HashMap<Vmid, Observation>,
    pub(super) next_cursor: Option<String>,
}

pub(super) async fn list_own(
    servers: &Servers,
    owner: UserId,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Listed, ApiError> {
    // Parse.
    let Query(page) = page.map_err(|_| ApiError::Invalid {
        field: None,
        message: "the query is malformed".to_owned(),
    })?;
    let after = page.cursor.map_or(Ok(Cursor::START), |cursor| cursor.parse());
    let after =
        after.map_err(|_| ApiError::field("cursor", "must be the `nextCursor` of a page"))?;
    let limit = page.limit.map_or(Ok(MAX_PAGE), |limit| limit.parse()).ok();
    let limit = limit
        .filter(|limit| (1..=MAX_PAGE).contains(limit))
        .ok_or_else(|| ApiError::field("limit", format!("must be from 1 to {MAX_PAGE}")))?;

    // Act. One more than asked for tells whether there are more.
    let db = servers.database.open().await.map_err(unavailable)?;
    let mut instances =
        store::own_instances(&db, owner, after, limit + 1).await.map_err(unavailable)?;
    let page_size = usize::try_from(limit).unwrap_or(usize::MAX);
    let more = instances.len() > page_size;
    instances.truncate(page_size);
    let vmids: Vec<_> = instances.iter().map(|instance| instance.vmid).collect();
    let observations = servers.agents.observations(&vmids).await;

    // Respond.
    let next_cursor = instances.last().filter(|_| more).map(|last| {
        Cursor { created_at_ms: last.created_at_ms, vmid: last.vmid.get() }.to_string()
    });
    Ok(Listed { instances, observations, next_cursor })
}

/// Shows one's own instance.
#[utoipa::path(
    get,
    path = "/api/instances/{vmid}",
    tag = "instances",
    params(("vmid" = Vmid, Path)),
    security(("token" = [])),
    responses((status = 200, body = InstanceBody), Unauthenticated, NotFound, Failure),
)]
async fn get_instance(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Json<InstanceBody>, ApiError> {
    let db = servers.database.open().await.map_err(unavailable)?;
    let instance = own_instance(&db, actor.user_id, vmid).await?;
    let observations = servers.agents.observations(&[vmid]).await;
    Ok(Json(instance_body(instance, observations.get(&vmid), (servers.clock)())))
}

pub(super) async fn own_instance(db: &Db, owner: UserId, vmid: Vmid) -> Result<Instance, ApiError> {
    let instance = store::own_instance(db, owner, vmid).await.map_err(unavailable)?;
    instance.ok_or(ApiError::NotFound)
}

fn instance_body(
    instance: Instance,
    observation: Option<&Observation>,
    now_ms: i64,
) -> InstanceBody {
    let live = instance.live(observation, now_ms);
    let status = live.and_then(|seen| seen.status.as_ref());
    let ctype = instance.spec.workload.ctype();
    let shown = instance.status(live);
    let ready = instance.ready(live);
    let last_seen = instance.last_seen(observation).map(|seen| rfc3339(seen.seen_at_ms));
    let (workload, version) = workload_body(instance.spec.workload, instance.ports);
    InstanceBody {
        vmid: instance.vmid,
        id: instance.vmid,
        ctype,
        memory_mib: instance.spec.memory_mib,
        cpu_cores: instance.spec.cpu_cores,
        state: instance.state.as_str(),
        status: shown,
        ready,
        agent_status: online(live),
        install_step: status.and_then(|status| status.install_step.clone()),
        last_seen,
        code_server_running: status.is_some_and(|status| status.code_server_running),
        created_at: rfc3339(instance.created_at_ms),
        ready_at: instance.ready_at_ms.map(rfc3339),
        suspended: instance.suspended,
        name: instance.name,
        workload,
        version,
    }
}

fn workload_body(workload: Workload, ports: Vec<u16>) -> (WorkloadBody, String) {
    match workload {
        Workload::Dev { runtime, version, .. } => {
            let body = WorkloadBody {
                runtime: Some(runtime),
                game: None,
                variant: None,
                world: None,
                ports: None,
            };
            (body, version)
        }
        Workload::Game { game, variant, version, world, .. } => {
            let body = WorkloadBody {
                runtime: None,
                game: Some(game),
                variant: Some(variant),
                world: Some(world),
                ports: Some(ports),
            };
            (body, version)
        }
    }
}

pub(super) fn online(live: Option<&Observation>) -> &'static str {
    if live.is_some() { "online" } else { "offline" }
}
