//! How an instance comes about.

use axum::extract::State;
use http::{HeaderMap, HeaderName};
use serde::{Deserialize, Serialize};
use serde_json::json;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use zlh_agent_protocol::artifact::{CODE_SERVER_ADDON, DevCatalog};
use zlh_agent_protocol::internal::InstanceSpec;
use zlh_api::{ApiError, Conflict, Failure, Invalid, Json, TooLarge, Unauthenticated};
use zlh_authn::Actor;
use zlh_ids::{ContainerType, UserId};
use zlh_storage::Db;
use zlh_storage::audit::{self, Act};

use super::{Accepted, Begun, Servers, accepted, unavailable};
use crate::model::{NewInstance, next_vmid};
use crate::store;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

zlh_api::operations!(pub(super) Servers: create_instance);

// What must be there has a default, so that it is missed by name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateInstance {
    #[serde(default, alias = "container_type")]
    #[schema(required, pattern = "^dev$", example = "dev")]
    ctype: String,
    /// One of the catalogue.
    #[serde(default)]
    #[schema(required, example = "node")]
    runtime: String,
    /// One of the catalogue.
    #[serde(default)]
    #[schema(required, example = "24")]
    version: String,
    #[schema(min_length = 1, max_length = 64)]
    name: Option<String>,
    /// The caller's own id.
    #[serde(rename = "customerId")]
    #[schema(value_type = Option<UserId>)]
    customer_id: Option<String>,
    /// Of game servers, like the next three.
    #[serde(rename = "portsNeeded")]
    #[schema(ignore)]
    ports_needed: Option<u16>,
    #[schema(ignore)]
    game: Option<String>,
    #[schema(ignore)]
    variant: Option<String>,
    #[schema(ignore)]
    world: Option<String>,
    #[serde(rename = "memoryMiB")]
    #[schema(minimum = 256, maximum = 16_384, default = 2048)]
    memory_mib: Option<u32>,
    #[serde(rename = "cpuCores")]
    #[schema(minimum = 1, maximum = 16, default = 2)]
    cpu_cores: Option<u32>,
    #[serde(alias = "enableCodeServer")]
    enable_code_server: Option<bool>,
    /// `codeserver`.
    #[serde(default)]
    addons: Vec<String>,
}

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
    let new = new_instance(actor.user_id, idempotency_key(&headers)?, body)?;
    let db = servers.database.open().await.map_err(unavailable)?;
    if let Some(answer) = repeated(&db, &new).await? {
        return Ok(answer);
    }
    check_offered(&servers.catalog.dev().await?, &new.spec)?;

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
    let (last_given, taken) = store::dev_vmids(&tx).await.map_err(unavailable)?;
    let vmid =
        next_vmid(last_given, &taken).ok_or_else(|| ApiError::unavailable("no vmid is free"))?;
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

/// Everything of the request that can be checked without the catalogue.
fn new_instance(
    owner: UserId,
    idempotency_key: Option<String>,
    body: CreateInstance,
) -> Result<NewInstance, ApiError> {
    match body.ctype.parse() {
        Ok(ContainerType::Dev) => {}
        Ok(ContainerType::Game) => {
            return Err(ApiError::field("ctype", "game servers are not offered yet"));
        }
        Err(_) => return Err(ApiError::field("ctype", "must be `dev`")),
    }
    check_contract(owner, &body)?;
    if let Some(name) = &body.name {
        let printable = !name.trim().is_empty() && !name.chars().any(char::is_control);
        if !printable || name.chars().count() > 64 {
            return Err(ApiError::field("name", "must have 1 to 64 printable characters"));
        }
    }
    if body.addons.iter().any(|addon| addon != CODE_SERVER_ADDON) {
        return Err(ApiError::field("addons", format!("the one add-on is `{CODE_SERVER_ADDON}`")));
    }
    let memory_mib = body.memory_mib.unwrap_or(2048);
    if !(256..=16_384).contains(&memory_mib) {
        return Err(ApiError::field("memoryMiB", "must be from 256 to 16384"));
    }
    let cpu_cores = body.cpu_cores.unwrap_or(2);
    if !(1..=16).contains(&cpu_cores) {
        return Err(ApiError::field("cpuCores", "must be from 1 to 16"));
    }
    let spec = InstanceSpec {
        ctype: ContainerType::Dev,
        runtime: body.runtime,
        version: body.version,
        memory_mib,
        cpu_cores,
        enable_code_server: body.enable_code_server.unwrap_or(true) || !body.addons.is_empty(),
    };
    let request_hash = hash(&(&body.name, &spec))?;
    Ok(NewInstance { owner, name: body.name, spec, idempotency_key, request_hash })
}

/// What the contract has, and dev containers do not need.
fn check_contract(owner: UserId, body: &CreateInstance) -> Result<(), ApiError> {
    if body.customer_id.as_ref().is_some_and(|id| id.parse() != Ok(owner)) {
        return Err(ApiError::field("customerId", "must be your own id, or left out"));
    }
    if body.ports_needed.is_some_and(|count| count > 0) {
        return Err(ApiError::field("portsNeeded", "dev containers have no ports of their own"));
    }
    let of_games = [("game", &body.game), ("variant", &body.variant), ("world", &body.world)];
    match of_games.into_iter().find(|(_, value)| value.is_some()) {
        Some((field, _)) => Err(ApiError::field(field, "dev containers do not have this")),
        None => Ok(()),
    }
}

fn check_offered(catalog: &DevCatalog, spec: &InstanceSpec) -> Result<(), ApiError> {
    let Some(runtime) = catalog.runtimes.iter().find(|package| package.id == spec.runtime) else {
        let offered = catalog.runtimes.iter().map(|package| package.id.as_str());
        return Err(ApiError::field("runtime", one_of(offered)));
    };
    if runtime.version(&spec.version).is_none() {
        let offered = runtime.versions.iter().map(|artifact| artifact.version.as_str());
        return Err(ApiError::field("version", one_of(offered)));
    }
    if spec.enable_code_server && catalog.addon(CODE_SERVER_ADDON).is_none() {
        return Err(ApiError::field("enable_code_server", "code-server is not offered"));
    }
    Ok(())
}

fn one_of<'a>(offered: impl Iterator<Item = &'a str>) -> String {
    let offered: Vec<_> = offered.collect();
    if offered.is_empty() {
        "none is offered".to_owned()
    } else {
        format!("must be one of {}", offered.join(", "))
    }
}

fn hash(request: &impl Serialize) -> Result<String, ApiError> {
    let json = serde_json::to_vec(request).map_err(ApiError::internal)?;
    Ok(format!("{:x}", Sha256::digest(json)))
}
