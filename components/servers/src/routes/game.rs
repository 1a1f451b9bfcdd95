//! Game servers turned on and off by their agents, at once; and who plays on them.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;
use zlh_agent_protocol::agent::{Accepted, AgentState, Players, Power as Verb};
use zlh_agents::{Agent, Refused};
use zlh_api::{ApiError, Conflict, Failure, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Actor;
use zlh_ids::{ContainerType, UserId, Vmid};

use super::host::{record, usable};
use super::instances::own_instance;
use super::{Servers, unavailable};
use crate::model::{Instance, Power};

zlh_api::operations!(
    pub(super) Servers: start_game, stop_game, restart_game, kill_game, list_players
);

/// What the agent made of it.
#[derive(Debug, Serialize, ToSchema)]
struct GamePower {
    /// Always true.
    ok: bool,
    /// What the game is doing now.
    #[schema(value_type = String, example = "starting")]
    state: AgentState,
}

/// Starts one's own game server.
#[utoipa::path(
    post,
    path = "/api/servers/{id}/game/start",
    tag = "servers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 200, body = GamePower, description = "It is so"),
        (status = 202, body = GamePower, description = "It goes on: the server's status tells"),
        Unauthenticated, NotFound, Conflict, Failure, Refused
    ),
)]
async fn start_game(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Response, ApiError> {
    control_game(&servers, actor.user_id, vmid, Verb::Start).await
}

/// Saves and stops one's own game server.
#[utoipa::path(
    post,
    path = "/api/servers/{id}/game/stop",
    tag = "servers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 200, body = GamePower, description = "It is so"),
        (status = 202, body = GamePower, description = "It goes on: the server's status tells"),
        Unauthenticated, NotFound, Conflict, Failure, Refused
    ),
)]
async fn stop_game(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Response, ApiError> {
    control_game(&servers, actor.user_id, vmid, Verb::Stop).await
}

/// Stops one's own game server, then starts it.
#[utoipa::path(
    post,
    path = "/api/servers/{id}/game/restart",
    tag = "servers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 200, body = GamePower, description = "It is so"),
        (status = 202, body = GamePower, description = "It goes on: the server's status tells"),
        Unauthenticated, NotFound, Conflict, Failure, Refused
    ),
)]
async fn restart_game(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Response, ApiError> {
    control_game(&servers, actor.user_id, vmid, Verb::Restart).await
}

/// Ends one's own game server at once, saved or not, whatever else is being done to it.
#[utoipa::path(
    post,
    path = "/api/servers/{id}/game/kill",
    tag = "servers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses(
        (status = 200, body = GamePower, description = "It is so"),
        Unauthenticated, NotFound, Conflict, Failure, Refused
    ),
)]
async fn kill_game(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Response, ApiError> {
    control_game(&servers, actor.user_id, vmid, Verb::Kill).await
}

async fn control_game(
    servers: &Servers,
    owner: UserId,
    vmid: Vmid,
    verb: Verb,
) -> Result<Response, ApiError> {
    // Authorise.
    let tx =
        servers.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    let instance = own_instance(&tx, owner, vmid).await?;
    let agent = game_agent(&instance)?;

    // Act. What cannot be recorded is not done, so the record comes first.
    record(servers, &tx, owner, &instance, &format!("game.{}", word(verb))).await?;
    tx.commit().await.map_err(unavailable)?;
    let what = format!("{} the game", word(verb));
    let call = (Method::POST, verb.path());
    let (status, accepted): (_, Option<Accepted>) =
        servers.agent_calls.ask(&agent, call, Bytes::new(), &what).await?;

    // Respond. Ours always has a body, as older clients know it.
    let status = if status == StatusCode::NO_CONTENT { StatusCode::OK } else { status };
    let state = accepted.map_or(AgentState::Stopped, |accepted| accepted.state);
    Ok((status, Json(GamePower { ok: true, state })).into_response())
}

/// Lists who plays on one's own game server.
#[utoipa::path(
    get,
    path = "/api/game/servers/{id}/players",
    tag = "servers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses((status = 200, body = Players), Unauthenticated, NotFound, Conflict, Failure, Refused),
)]
async fn list_players(
    State(servers): State<Servers>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Json<Players>, ApiError> {
    let db = servers.database.open().await.map_err(unavailable)?;
    let agent = game_agent(&own_instance(&db, actor.user_id, vmid).await?)?;
    let call = (Method::GET, "/game/players");
    let (_, players) =
        servers.agent_calls.ask(&agent, call, Bytes::new(), "tell who plays").await?;
    Ok(Json(players))
}

/// The agent of a game server that can be used.
fn game_agent(instance: &Instance) -> Result<Agent, ApiError> {
    if instance.spec.workload.ctype() != ContainerType::Game {
        return Err(ApiError::NotFound);
    }
    let address = usable(instance)?.to_owned();
    if instance.power == Power::Off {
        return Err(ApiError::conflict("the container is stopped"));
    }
    Ok(Agent { vmid: instance.vmid, instance_id: instance.instance_id, address })
}

fn word(verb: Verb) -> &'static str {
    verb.path().trim_start_matches('/')
}
