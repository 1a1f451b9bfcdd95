//! The agent's listener: only the control plane calls it.
//!
//! `/health` answers anybody; everything else wants the container's token.

mod console;
mod game;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::de::DeserializeOwned;
use subtle::ConstantTimeEq as _;
use zlh_agent_protocol::agent::{Accepted, AgentConfig, CodeServerState, Status, Version};
use zlh_ids::ContainerType;

use crate::agent::{Agent, CodeServerAction};
use crate::blocking::blocking;
use crate::config::Secret;
use crate::error::ApiError;
use crate::files;

/// A configuration is a few hundred bytes.
const BODY_LIMIT: usize = 64 * 1024;

pub(crate) fn router(agent: Arc<Agent>, token: Secret) -> Router {
    let token = Arc::new(token);
    Router::new()
        .route("/ready", get(get_ready))
        .route("/status", get(get_status))
        .route("/version", get(get_version))
        .route("/config", post(put_config))
        .route("/dev/codeserver/start", post(start_code_server))
        .route("/dev/codeserver/stop", post(stop_code_server))
        .route("/dev/codeserver/restart", post(restart_code_server))
        .nest("/dev/files", files::routes::router(Arc::clone(&agent), ContainerType::Dev))
        .nest("/game/files", files::routes::router(Arc::clone(&agent), ContainerType::Game))
        .route("/start", post(game::start))
        .route("/stop", post(game::stop))
        .route("/restart", post(game::restart))
        .route("/kill", post(game::kill))
        .route("/halt", post(game::halt))
        .route("/console/command", post(game::command))
        .route("/console/stream", get(console::stream))
        .route("/game/players", get(game::players))
        .route("/install/log", get(game::install_log))
        .route("/install/abort", post(game::abort_install))
        .fallback(async || ApiError::NotFound)
        .method_not_allowed_fallback(async || ApiError::MethodNotAllowed)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(middleware::from_fn(move |request: Request, next: Next| {
            let token = Arc::clone(&token);
            async move { authenticate(&token, request, next).await }
        }))
        // After the layers, so without them.
        .route("/health", get(async || "ok"))
        .with_state(agent)
}

async fn authenticate(token: &Secret, request: Request, next: Next) -> Response {
    if presents(request.headers(), token) {
        next.run(request).await
    } else {
        ApiError::Unauthenticated.into_response()
    }
}

/// RFC 6750 section 2.1; the scheme's case does not matter (RFC 9110 section 11.1).
fn presents(headers: &HeaderMap, token: &Secret) -> bool {
    let Some((scheme, credential)) = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split_once(' '))
    else {
        return false;
    };
    scheme.eq_ignore_ascii_case("bearer")
        && bool::from(credential.as_bytes().ct_eq(token.reveal().as_bytes()))
}

async fn get_ready(State(agent): State<Arc<Agent>>) -> Response {
    let ready = agent.ready();
    let status = if ready.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(ready)).into_response()
}

async fn get_status(State(agent): State<Arc<Agent>>) -> Json<Status> {
    Json(agent.status())
}

async fn get_version() -> Json<Version> {
    Json(Version { version: env!("CARGO_PKG_VERSION").to_owned() })
}

type Payload = Result<Bytes, axum::extract::rejection::BytesRejection>;

fn parse<T: DeserializeOwned>(body: Payload) -> Result<T, ApiError> {
    let body = body.map_err(|_| ApiError::TooLarge)?;
    serde_json::from_slice(&body).map_err(|error| ApiError::Invalid(error.to_string()))
}

async fn put_config(
    State(agent): State<Arc<Agent>>,
    body: Payload,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    let config: AgentConfig = parse(body)?;

    let state = blocking(move || agent.configure(config)).await?;

    Ok((StatusCode::ACCEPTED, Json(Accepted { ok: true, state })))
}

async fn start_code_server(
    State(agent): State<Arc<Agent>>,
) -> Result<(StatusCode, Json<CodeServerState>), ApiError> {
    act(&agent, CodeServerAction::Start).await
}

async fn stop_code_server(
    State(agent): State<Arc<Agent>>,
) -> Result<(StatusCode, Json<CodeServerState>), ApiError> {
    act(&agent, CodeServerAction::Stop).await
}

async fn restart_code_server(
    State(agent): State<Arc<Agent>>,
) -> Result<(StatusCode, Json<CodeServerState>), ApiError> {
    act(&agent, CodeServerAction::Restart).await
}

async fn act(
    agent: &Arc<Agent>,
    action: CodeServerAction,
) -> Result<(StatusCode, Json<CodeServerState>), ApiError> {
    let done = agent.code_server_action(action).await?;
    let code_server_running = agent.code_server.desire().process.is_some();
    let status = if done { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(CodeServerState { ok: true, code_server_running })))
}
