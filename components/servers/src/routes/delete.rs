//! How an instance goes: by its newer route, and by the one that older clients know.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use zlh_api::{ApiError, Conflict, Failure, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Actor;
use zlh_ids::{OperationId, UserId, Vmid};
use zlh_storage::audit::{self, Act};

use super::instances::own_instance;
use super::{Accepted, Begun, Servers, accepted, unavailable};
use crate::model::State as InstanceState;
use crate::store;

zlh_api::operations!(pub(super) Servers: delete_instance, delete_container);

/// What older clients are told of a deletion.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct DeletedContainer {
    ok: bool,
    vmid: Vmid,
    /// It is gone and its record is kept.
    archived: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_id: Option<OperationId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status_url: Option<String>,
}

/// Begins to delete one's own instance; that it already began is no error.
#[utoipa::path(
    delete,
    path = "/api/instances/{vmid}",
    tag = "instances",
    params(("vmid" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (
            status = 202,
            description = "It goes on: the operation tells how far it is",
            body = Begun,
            headers(("Location" = String, description = "The operation")),
            links(("operation" = (operation_id = "get_operation", parameters(("id" = "$response.body#/operationId")))))
        ),
        Unauthenticated, NotFound, Conflict, Failure
    ),
)]
async fn delete_instance(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Accepted, ApiError> {
    begin(&servers, actor.user_id, vmid).await.map(|operation| accepted(operation, vmid))
}

/// Begins to delete one's own container; repeated once it is gone, says so.
#[utoipa::path(
    delete,
    path = "/api/containers/{vmid}",
    tag = "instances",
    params(("vmid" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 200, description = "It is gone", body = DeletedContainer),
        (
            status = 202,
            description = "It goes on: the operation tells how far it is",
            body = DeletedContainer,
            headers(("Location" = String, description = "The operation")),
            links(("operation" = (operation_id = "get_operation", parameters(("id" = "$response.body#/operationId")))))
        ),
        Unauthenticated, NotFound, Conflict, Failure
    ),
)]
async fn delete_container(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Response, ApiError> {
    match begin(&servers, actor.user_id, vmid).await {
        Ok(operation) => {
            let (_, location, Json(begun)) = accepted(operation, vmid);
            let body = DeletedContainer {
                ok: true,
                vmid,
                archived: false,
                operation_id: Some(operation),
                status_url: Some(begun.status_url),
            };
            Ok((StatusCode::ACCEPTED, location, Json(body)).into_response())
        }
        Err(ApiError::NotFound) => {
            let db = servers.database.open().await.map_err(unavailable)?;
            if !store::was_own(&db, actor.user_id, vmid).await.map_err(unavailable)? {
                return Err(ApiError::NotFound);
            }
            let body = DeletedContainer {
                ok: true,
                vmid,
                archived: true,
                operation_id: None,
                status_url: None,
            };
            Ok(Json(body).into_response())
        }
        Err(error) => Err(error),
    }
}

/// The operation that deletes the instance, newly begun or running.
async fn begin(servers: &Servers, owner: UserId, vmid: Vmid) -> Result<OperationId, ApiError> {
    // Authorise.
    let now_ms = (servers.clock)();
    let tx =
        servers.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    let instance = own_instance(&tx, owner, vmid).await?;
    match instance.state {
        InstanceState::Creating => {
            return Err(ApiError::conflict("the instance is still being created"));
        }
        InstanceState::Active => {}
        InstanceState::Deleting => {
            let running = store::deletion(&tx, instance.instance_id).await.map_err(unavailable)?;
            return running.ok_or_else(|| ApiError::internal("a deletion without an operation"));
        }
    }

    // Act.
    let operation =
        store::begin_deletion(&tx, owner, &instance, now_ms).await.map_err(unavailable)?;
    let act = Act {
        actor: &owner.to_string(),
        action: "instance.delete",
        target: &vmid.to_string(),
        detail: json!({ "instanceId": instance.instance_id, "operationId": operation }),
        at_ms: now_ms,
    };
    audit::append(&tx, &act).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(user.id = %owner, %vmid, operation.id = %operation, "an instance is to be deleted");
    Ok(operation)
}
