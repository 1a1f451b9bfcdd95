//! Power, console commands and what else only game containers have.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use zlh_agent_protocol::agent::{Accepted, InstallLog, Players, Power};
use zlh_agent_protocol::console::{CommandAccepted, ConsoleCommand, MAX_COMMAND_BYTES};
use zlh_agent_protocol::game::Players as PlayersQuery;

use super::Payload;
use crate::agent::Agent;
use crate::error::ApiError;
use crate::server::{PowerDone, ping};

pub(super) async fn start(State(agent): State<Arc<Agent>>) -> Result<Response, ApiError> {
    act(&agent, Power::Start).await
}

pub(super) async fn stop(State(agent): State<Arc<Agent>>) -> Result<Response, ApiError> {
    act(&agent, Power::Stop).await
}

pub(super) async fn restart(State(agent): State<Arc<Agent>>) -> Result<Response, ApiError> {
    act(&agent, Power::Restart).await
}

pub(super) async fn kill(State(agent): State<Arc<Agent>>) -> Result<Response, ApiError> {
    act(&agent, Power::Kill).await
}

pub(super) async fn halt(State(agent): State<Arc<Agent>>) -> Result<Response, ApiError> {
    act(&agent, Power::Halt).await
}

async fn act(agent: &Arc<Agent>, power: Power) -> Result<Response, ApiError> {
    match agent.power(power).await? {
        PowerDone::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        PowerDone::Accepted(state) => {
            Ok((StatusCode::ACCEPTED, Json(Accepted { ok: true, state })).into_response())
        }
    }
}

pub(super) async fn command(
    State(agent): State<Arc<Agent>>,
    body: Payload,
) -> Result<(StatusCode, Json<CommandAccepted>), ApiError> {
    let ConsoleCommand { command } = super::parse(body)?;
    if command.is_empty() || command.len() > MAX_COMMAND_BYTES {
        return Err(ApiError::Invalid(format!("`command` has 1 to {MAX_COMMAND_BYTES} bytes")));
    }
    if command.chars().any(char::is_control) {
        return Err(ApiError::Invalid("`command` has control characters in it".to_owned()));
    }
    let run = agent
        .server
        .run()
        .ok_or_else(|| ApiError::Conflict("the server does not run".to_owned()))?;
    agent.commands.take()?;

    // One write: lines of several clients are never mixed.
    if !run.say(format!("{command}\n")).await {
        return Err(ApiError::Unavailable("the server does not read its console".to_owned()));
    }
    Ok((StatusCode::ACCEPTED, Json(CommandAccepted { ok: true })))
}

pub(super) async fn players(State(agent): State<Arc<Agent>>) -> Result<Json<Players>, ApiError> {
    let launch = agent.server.launch().ok_or(ApiError::NotFound)?;
    let Some(PlayersQuery::Minecraft { port }) = launch.version.server.players else {
        return Err(ApiError::NotFound);
    };
    let unavailable =
        |error: String| ApiError::Unavailable(format!("the server does not answer: {error}"));
    let port = launch.port(port).map_err(|error| unavailable(error.to_string()))?;
    Ok(Json(ping(port).await.map_err(|error| unavailable(error.to_string()))?))
}

pub(super) async fn install_log(State(agent): State<Arc<Agent>>) -> Json<InstallLog> {
    Json(InstallLog { lines: agent.facts.read().install_log.into() })
}

pub(super) async fn abort_install(State(agent): State<Arc<Agent>>) -> Result<StatusCode, ApiError> {
    agent.abort_install()?;
    Ok(StatusCode::NO_CONTENT)
}
