//! What a user sees of their logins, and how they end those elsewhere (G04).

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use zlh_api::{ApiError, Failure, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Actor;
use zlh_guest::rfc3339;
use zlh_ids::SessionId;

use super::login::{end_session, end_sessions};
use super::{Auth, Done, unavailable};
use crate::store::sessions;

zlh_api::operations!(pub(super) Auth: list_sessions, delete_session, logout_all);

#[derive(Serialize, ToSchema)]
struct Sessions {
    ok: bool,
    /// Those used last first; at most 100.
    sessions: Vec<Session>,
}

#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Session {
    id: SessionId,
    /// The one that asks.
    current: bool,
    /// An address of IPv4, the first half of one of IPv6, or unknown.
    network: Option<String>,
    user_agent: Option<String>,
    created_at: String,
    /// When it last got a pair of tokens.
    used_at: String,
    expires_at: String,
}

/// Shows the caller's sessions.
#[utoipa::path(
    get,
    path = "/api/auth/sessions",
    tag = "accounts",
    security(("token" = [])),
    responses((status = 200, body = Sessions), Unauthenticated, Failure),
)]
async fn list_sessions(State(auth): State<Auth>, actor: Actor) -> Result<Json<Sessions>, ApiError> {
    let now_ms = (auth.clock)();
    let idle_ms = i64::try_from(auth.idle_ttl.as_millis()).unwrap_or(i64::MAX);
    let db = auth.database.open().await.map_err(unavailable)?;
    let live = sessions::live_sessions(&db, actor.user_id, now_ms.saturating_sub(idle_ms), now_ms)
        .await
        .map_err(unavailable)?;
    let show = |session: sessions::Session| Session {
        id: session.id,
        current: session.id == actor.session_id,
        network: session.network,
        user_agent: session.user_agent,
        created_at: rfc3339(session.created_at_ms),
        used_at: rfc3339(session.used_at_ms),
        expires_at: rfc3339(session.expires_at_ms),
    };
    Ok(Json(Sessions { ok: true, sessions: live.into_iter().map(show).collect() }))
}

/// Ends one of the caller's sessions, and closes the streams that it opened.
#[utoipa::path(
    delete,
    path = "/api/auth/sessions/{id}",
    tag = "accounts",
    params(("id" = SessionId, Path)),
    security(("token" = [])),
    responses((status = 200, body = Done), Unauthenticated, NotFound, Failure),
)]
async fn delete_session(
    State(auth): State<Auth>,
    actor: Actor,
    Path(id): Path<SessionId>,
) -> Result<Json<Done>, ApiError> {
    let tx = auth.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    if !end_session(&tx, id, actor.user_id, "revoked", (auth.clock)()).await? {
        return Err(ApiError::NotFound);
    }
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(user.id = %actor.user_id, session.id = %id, "revoked a session");

    Ok(Done::because("the session is over"))
}

/// Ends all of the caller's sessions, this one too.
#[utoipa::path(
    post,
    path = "/api/auth/logout-all",
    tag = "accounts",
    security(("token" = [])),
    responses((status = 200, body = Done), Unauthenticated, Failure),
)]
async fn logout_all(State(auth): State<Auth>, actor: Actor) -> Result<Json<Done>, ApiError> {
    let tx = auth.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    end_sessions(&tx, actor.user_id, None, "logout-all", (auth.clock)()).await?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(user.id = %actor.user_id, "logged out everywhere");

    Ok(Done::because("logged out everywhere"))
}
