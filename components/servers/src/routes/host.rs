//! Containers turned on and off, whatever runs in them: recorded here, and made so by the host-proxy of the
//! container's machine within seconds.

use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use zlh_api::{ApiError, Conflict, Failure, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Actor;
use zlh_ids::{UserId, Vmid};
use zlh_storage::Db;
use zlh_storage::audit::{self, Act};

use super::instances::own_instance;
use super::{Servers, unavailable};
use crate::model::{Instance, Power, State as InstanceState};
use crate::store;

zlh_api::operations!(pub(super) Servers: start_host, stop_host, restart_host);

/// What is wanted of the container from now on.
#[derive(Debug, Serialize, ToSchema)]
struct HostPower {
    /// Always true.
    success: bool,
    /// For people.
    message: &'static str,
}

/// Lets one's own container run, and in it what ran before.
#[utoipa::path(
    post,
    path = "/api/servers/{id}/host/start",
    tag = "servers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 202, body = HostPower, description = "It goes on: the server's status tells"),
        Unauthenticated, NotFound, Conflict, Failure
    ),
)]
async fn start_host(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<(StatusCode, Json<HostPower>), ApiError> {
    control_host(&servers, actor.user_id, vmid, HostVerb::Start).await
}

/// Ends everything in one's own container.
#[utoipa::path(
    post,
    path = "/api/servers/{id}/host/stop",
    tag = "servers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 202, body = HostPower, description = "It goes on: the server's status tells"),
        Unauthenticated, NotFound, Conflict, Failure
    ),
)]
async fn stop_host(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<(StatusCode, Json<HostPower>), ApiError> {
    control_host(&servers, actor.user_id, vmid, HostVerb::Stop).await
}

/// Ends everything in one's own container, then lets it run again.
#[utoipa::path(
    post,
    path = "/api/servers/{id}/host/restart",
    tag = "servers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 202, body = HostPower, description = "It goes on: the server's status tells"),
        Unauthenticated, NotFound, Conflict, Failure
    ),
)]
async fn restart_host(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<(StatusCode, Json<HostPower>), ApiError> {
    control_host(&servers, actor.user_id, vmid, HostVerb::Restart).await
}

#[derive(Clone, Copy)]
enum HostVerb {
    Start,
    Stop,
    Restart,
}

async fn control_host(
    servers: &Servers,
    owner: UserId,
    vmid: Vmid,
    verb: HostVerb,
) -> Result<(StatusCode, Json<HostPower>), ApiError> {
    // Authorise.
    let tx =
        servers.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    let instance = own_instance(&tx, owner, vmid).await?;
    usable(&instance)?;

    // Act.
    let (action, power, message) = match verb {
        HostVerb::Start => ("host.start", Power::On, "the container is being started"),
        HostVerb::Stop => ("host.stop", Power::Off, "the container is being stopped"),
        HostVerb::Restart => ("host.restart", Power::On, "the container is being restarted"),
    };
    let anew = matches!(verb, HostVerb::Restart);
    store::set_power(&tx, instance.instance_id, power, anew).await.map_err(unavailable)?;
    record(servers, &tx, owner, &instance, action).await?;
    tx.commit().await.map_err(unavailable)?;

    // Respond.
    Ok((StatusCode::ACCEPTED, Json(HostPower { success: true, message })))
}

/// The address of the agent, if the instance is there and may be used.
pub(super) fn usable(instance: &Instance) -> Result<&str, ApiError> {
    match (instance.state, &instance.agent_address) {
        (InstanceState::Deleting, _) => Err(ApiError::conflict("the server is being deleted")),
        (InstanceState::Active, _) if instance.suspended => {
            Err(ApiError::conflict("the server is suspended"))
        }
        (InstanceState::Active, Some(address)) => Ok(address),
        _ => Err(ApiError::conflict("the server is still being created")),
    }
}

/// Writes into the audit log what the owner does to the instance.
pub(super) async fn record(
    servers: &Servers,
    db: &Db,
    owner: UserId,
    instance: &Instance,
    action: &str,
) -> Result<(), ApiError> {
    let act = Act {
        actor: &owner.to_string(),
        action,
        target: &instance.vmid.to_string(),
        detail: json!({ "instanceId": instance.instance_id }),
        at_ms: (servers.clock)(),
    };
    audit::append(db, &act).await.map_err(unavailable)
}
