//! How an instance comes about.

use axum::extract::State;
use http::{HeaderMap, HeaderName};
use serde_json::json;
use zlh_api::{ApiError, Conflict, Failure, Invalid, Json, TooLarge, Unauthenticated};
use zlh_authn::Actor;
use zlh_storage::Db;
use zlh_storage::audit::{self, Act};

use super::{Accepted, Begun, Servers, accepted, unavailable};
use crate::model::{NewInstance, next_vmid};
use crate::store;

mod offered;
mod wanted;

use wanted::CreateInstance;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

zlh_api::operations!(pub(super) Servers: create_instance);

/// Begins to create an instance; once per `Idempotency-Key`, where there is one.
#[utoipa::path(
    post,
    path = "/api/instances",
    tag = "instances",
    request_body = CreateInstance,
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the request once, however often it is sent", pattern = "^[!-~]{1,255}$")),
    security(("token" = [])),
    responses(
        (
            status = 202,
            description = "It goes on: the operation tells how far it is",
            body = Begun,
            headers(("Location" = String, description = "The operation")),
            links(
                ("operation" = (operation_id = "get_operation", parameters(("id" = "$response.body#/operationId")))),
                ("instance" = (operation_id = "get_instance", parameters(("vmid" = "$response.body#/vmid")))),
                ("status" = (operation_id = "get_status", parameters(("vmid" = "$response.body#/vmid")))),
                ("ideToken" = (operation_id = "create_ide_token", parameters(("id" = "$response.body#/vmid")))),
                ("start" = (operation_id = "start_code_server", parameters(("id" = "$response.body#/vmid")))),
                ("stop" = (operation_id = "stop_code_server", parameters(("id" = "$response.body#/vmid")))),
                ("restart" = (operation_id = "restart_code_server", parameters(("id" = "$response.body#/vmid")))),
                ("delete" = (operation_id = "delete_instance", parameters(("vmid" = "$response.body#/vmid"))))
            )
        ),
        Invalid, Unauthenticated, Conflict, TooLarge, Failure
    ),
)]
async fn create_instance(
    State(servers): State<Servers>,
    actor: Actor,
    headers: HeaderMap,
    Json(body): Json<CreateInstance>,
) -> Result<Accepted, ApiError> {
    // Parse.
    let mut new = wanted::new_instance(actor.user_id, idempotency_key(&headers)?, body)?;
    let db = servers.database.open().await.map_err(unavailable)?;
    if let Some(answer) = repeated(&db, &new).await? {
        return Ok(answer);
    }
    offered::check(servers.catalog.as_ref(), &mut new.spec).await?;

    // Authorise. The key is looked up again: two requests at once both found it unused.
    let now_ms = (servers.clock)();
    let tx = db.begin().await.map_err(unavailable)?;
    if let Some(answer) = repeated(&tx, &new).await? {
        return Ok(answer);
    }
    let most = servers.max_instances_per_user;
    if store::count_of(&tx, new.owner).await.map_err(unavailable)? >= most {
        return Err(ApiError::conflict(format!(
            "you have {most} containers, more are not possible"
        )));
    }

    // Act.
    let ctype = new.spec.workload.ctype();
    let (last_given, taken) = store::vmids(&tx, ctype).await.map_err(unavailable)?;
    let vmid = next_vmid(ctype, last_given, &taken)
        .ok_or_else(|| ApiError::unavailable("no vmid is free"))?;
    let spec = serde_json::to_string(&new.spec).map_err(ApiError::internal)?;
    let (instance, operation) =
        store::add_instance(&tx, vmid, &new, &spec, now_ms).await.map_err(unavailable)?;
    let act = Act {
        actor: &new.owner.to_string(),
        action: "instance.create",
        target: &vmid.to_string(),
        detail: json!({ "instanceId": instance, "operationId": operation, "spec": new.spec }),
        at_ms: now_ms,
    };
    audit::append(&tx, &act).await.map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(user.id = %new.owner, %vmid, operation.id = %operation, "an instance is to be created");

    // Respond.
    Ok(accepted(operation, vmid))
}

/// The answer to the same request, if it was made before.
async fn repeated(db: &Db, new: &NewInstance) -> Result<Option<Accepted>, ApiError> {
    let Some(key) = &new.idempotency_key else { return Ok(None) };
    let before = store::repeated(db, new.owner, key).await.map_err(unavailable)?;
    match before {
        Some(before) if before.request_hash != new.request_hash => {
            Err(ApiError::conflict("this idempotency key belongs to another request"))
        }
        Some(before) => Ok(Some(accepted(before.operation, before.vmid))),
        None => Ok(None),
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    };
    let key = value.filter(|key| {
        (1..=255).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    });
    key.map(|key| Some(key.to_owned())).ok_or_else(|| {
        ApiError::field("Idempotency-Key", "the header must have 1 to 255 visible characters")
    })
}
