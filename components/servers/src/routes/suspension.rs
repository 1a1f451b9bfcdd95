//! What operators do to a customer's server: suspend it, which stops its container and closes its streams, and
//! give it back as it was.

use axum::extract::State;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use zlh_api::{ApiError, Conflict, Failure, Forbidden, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Admin;
use zlh_ids::Vmid;
use zlh_storage::audit::{self, Act};

use super::{Servers, unavailable};
use crate::model::State as InstanceState;
use crate::store;

zlh_api::operations!(pub(super) Servers: suspend_server, unsuspend_server);

#[derive(Debug, Serialize, ToSchema)]
struct Suspension {
    /// Always true.
    ok: bool,
    suspended: bool,
}

/// Suspends a server of any customer; that it is so already is no error.
#[utoipa::path(
    post,
    path = "/api/admin/servers/{id}/suspend",
    tag = "operators",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses((status = 200, body = Suspension), Unauthenticated, Forbidden, NotFound, Conflict, Failure),
)]
async fn suspend_server(
    State(servers): State<Servers>,
    admin: Admin,
    Path(vmid): Path<Vmid>,
) -> Result<Json<Suspension>, ApiError> {
    set(&servers, &admin, vmid, true).await
}

/// Gives a suspended server back; that it is not suspended is no error.
#[utoipa::path(
    post,
    path = "/api/admin/servers/{id}/unsuspend",
    tag = "operators",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses((status = 200, body = Suspension), Unauthenticated, Forbidden, NotFound, Conflict, Failure),
)]
async fn unsuspend_server(
    State(servers): State<Servers>,
    admin: Admin,
    Path(vmid): Path<Vmid>,
) -> Result<Json<Suspension>, ApiError> {
    set(&servers, &admin, vmid, false).await
}

async fn set(
    servers: &Servers,
    Admin(actor): &Admin,
    vmid: Vmid,
    suspended: bool,
) -> Result<Json<Suspension>, ApiError> {
    let now_ms = (servers.clock)();
    let tx =
        servers.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    let instance = store::any_instance(&tx, vmid).await.map_err(unavailable)?;
    let instance = instance.ok_or(ApiError::NotFound)?;
    match instance.state {
        InstanceState::Active => {}
        InstanceState::Creating => {
            return Err(ApiError::conflict("the server is still being created"));
        }
        InstanceState::Deleting => return Err(ApiError::conflict("the server is being deleted")),
    }
    if instance.suspended != suspended {
        let id = instance.instance_id;
        let since = suspended.then_some(now_ms);
        store::set_suspended(&tx, id, since).await.map_err(unavailable)?;
        let act = Act {
            actor: &actor.user_id.to_string(),
            action: if suspended { "server.suspend" } else { "server.unsuspend" },
            target: &vmid.to_string(),
            detail: json!({ "instanceId": id }),
            at_ms: now_ms,
        };
        audit::append(&tx, &act).await.map_err(unavailable)?;
        tx.commit().await.map_err(unavailable)?;
    }
    Ok(Json(Suspension { ok: true, suspended }))
}
