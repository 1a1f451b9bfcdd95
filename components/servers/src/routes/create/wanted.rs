//! What a request for an instance asks for, as far as that can be told without the catalogue.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::ToSchema;
use zlh_agent_protocol::artifact::CODE_SERVER_ADDON;
use zlh_agent_protocol::internal::{InstanceSpec, Workload};
use zlh_api::ApiError;
use zlh_ids::{ContainerType, UserId};

use crate::model::NewInstance;

/// Most ports of one game server; its agent has one more.
const MAX_PORTS: u16 = 15;
/// What a world is called that was given no name.
const DEFAULT_WORLD: &str = "world";

// What must be there has a default, so that it is missed by name.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CreateInstance {
    #[serde(default, alias = "container_type")]
    #[schema(required, pattern = "^(dev|game)$", example = "dev")]
    ctype: String,
    /// One of the catalogue; of dev containers.
    #[schema(example = "node")]
    runtime: Option<String>,
    /// One of the catalogue; of game servers, like the next one.
    #[schema(example = "openttd")]
    game: Option<String>,
    /// One of the catalogue.
    #[schema(example = "vanilla")]
    variant: Option<String>,
    /// One of the catalogue, of the runtime or of the variant.
    #[serde(default)]
    #[schema(required, example = "24")]
    version: String,
    /// Name of a game's world: `world` if there is none.
    #[schema(pattern = "^[A-Za-z0-9_][A-Za-z0-9_-]{0,31}$")]
    world: Option<String>,
    #[schema(min_length = 1, max_length = 64)]
    name: Option<String>,
    /// The caller's own id.
    #[serde(rename = "customerId")]
    #[schema(value_type = Option<UserId>)]
    customer_id: Option<String>,
    /// Of game servers; no fewer than the game needs, which is what it gets if nothing is said.
    #[serde(rename = "portsNeeded")]
    #[schema(minimum = 0, maximum = 15)]
    ports_needed: Option<u16>,
    #[serde(rename = "memoryMiB")]
    #[schema(minimum = 256, maximum = 16_384, default = 2048)]
    memory_mib: Option<u32>,
    #[serde(rename = "cpuCores")]
    #[schema(minimum = 1, maximum = 16, default = 2)]
    cpu_cores: Option<u32>,
    /// Of dev containers.
    #[serde(alias = "enableCodeServer")]
    enable_code_server: Option<bool>,
    /// `codeserver`; of dev containers.
    #[serde(default)]
    addons: Vec<String>,
}

/// The request in types that say what they mean.
pub(super) fn new_instance(
    owner: UserId,
    idempotency_key: Option<String>,
    body: CreateInstance,
) -> Result<NewInstance, ApiError> {
    let workload = match body.ctype.parse() {
        Ok(ContainerType::Dev) => dev(&body)?,
        Ok(ContainerType::Game) => game(&body)?,
        Err(_) => return Err(ApiError::field("ctype", "must be `dev` or `game`")),
    };
    if body.customer_id.as_ref().is_some_and(|id| id.parse() != Ok(owner)) {
        return Err(ApiError::field("customerId", "must be your own id, or left out"));
    }
    if let Some(name) = &body.name {
        let printable = !name.trim().is_empty() && !name.chars().any(char::is_control);
        if !printable || name.chars().count() > 64 {
            return Err(ApiError::field("name", "must have 1 to 64 printable characters"));
        }
    }
    let memory_mib = body.memory_mib.unwrap_or(2048);
    if !(256..=16_384).contains(&memory_mib) {
        return Err(ApiError::field("memoryMiB", "must be from 256 to 16384"));
    }
    let cpu_cores = body.cpu_cores.unwrap_or(2);
    if !(1..=16).contains(&cpu_cores) {
        return Err(ApiError::field("cpuCores", "must be from 1 to 16"));
    }
    let spec = InstanceSpec { workload, memory_mib, cpu_cores };
    let request_hash = hash(&(&body.name, &spec))?;
    Ok(NewInstance { owner, name: body.name, spec, idempotency_key, request_hash })
}

fn dev(body: &CreateInstance) -> Result<Workload, ApiError> {
    if body.ports_needed.is_some_and(|count| count > 0) {
        return Err(ApiError::field("portsNeeded", "dev containers have no ports of their own"));
    }
    let of_games = [("game", &body.game), ("variant", &body.variant), ("world", &body.world)];
    refuse(of_games.map(|(field, value)| (field, value.is_some())), "dev containers")?;
    if body.addons.iter().any(|addon| addon != CODE_SERVER_ADDON) {
        return Err(ApiError::field("addons", format!("the one add-on is `{CODE_SERVER_ADDON}`")));
    }
    Ok(Workload::Dev {
        runtime: body.runtime.clone().unwrap_or_default(),
        version: body.version.clone(),
        enable_code_server: body.enable_code_server.unwrap_or(true) || !body.addons.is_empty(),
    })
}

fn game(body: &CreateInstance) -> Result<Workload, ApiError> {
    let of_dev_containers = [
        ("runtime", body.runtime.is_some()),
        ("enable_code_server", body.enable_code_server == Some(true)),
        ("addons", !body.addons.is_empty()),
    ];
    refuse(of_dev_containers, "game servers")?;
    let world = body.world.clone().unwrap_or_else(|| DEFAULT_WORLD.to_owned());
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    // It becomes a file's name and a word of a command, where a leading `-` would be an option.
    if !(1..=32).contains(&world.len()) || !world.bytes().all(plain) || world.starts_with('-') {
        return Err(ApiError::field(
            "world",
            "must have 1 to 32 letters, digits, `-` and `_`, no `-` first",
        ));
    }
    let ports = body.ports_needed.unwrap_or(0);
    if ports > MAX_PORTS {
        return Err(ApiError::field("portsNeeded", format!("must be at most {MAX_PORTS}")));
    }
    Ok(Workload::Game {
        game: body.game.clone().unwrap_or_default(),
        variant: body.variant.clone().unwrap_or_default(),
        version: body.version.clone(),
        world,
        ports,
    })
}

/// Refuses the first field that is there and that things of this kind do not have.
fn refuse<const N: usize>(fields: [(&'static str, bool); N], things: &str) -> Result<(), ApiError> {
    match fields.into_iter().find(|(_, is_there)| *is_there) {
        Some((field, _)) => Err(ApiError::field(field, format!("{things} do not have this"))),
        None => Ok(()),
    }
}

fn hash(request: &impl Serialize) -> Result<String, ApiError> {
    let json = serde_json::to_vec(request).map_err(ApiError::internal)?;
    Ok(format!("{:x}", Sha256::digest(json)))
}
