//! Logins: how they start, go on and end.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use zlh_api::{ApiError, Failure, Invalid, Json, TooLarge, Unauthenticated};
use zlh_authn::Actor;
use zlh_authn::token::{hash_secret, random_base64};
use zlh_ids::{SessionId, UserId};
use zlh_storage::Db;
use zlh_storage::audit::{self, Act};

use super::{Auth, unavailable};
use crate::password;
use crate::store;

/// Longest text that is looked up or hashed; nothing that can be registered is longer.
const MAX_INPUT_CHARS: usize = 256;

zlh_api::operations!(pub(super) Auth: login, refresh, logout);

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct Login {
    /// E-mail address or user name.
    #[schema(min_length = 1, max_length = 256)]
    identifier: String,
    #[schema(min_length = 1, max_length = 256)]
    password: String,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Refresh {
    refresh_token: String,
}

/// The tokens of a session.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct LoggedIn {
    ok: bool,
    /// Proves the login.
    token: String,
    /// Gives the next pair, once.
    refresh_token: String,
    /// Life of `token`, in seconds.
    expires_in: u64,
}

#[derive(Serialize, ToSchema)]
struct LoggedOut {
    ok: bool,
    message: &'static str,
}

/// Starts a session.
#[utoipa::path(
    post,
    path = "/api/auth/login",
    tag = "accounts",
    request_body = Login,
    responses((status = 200, body = LoggedIn), Invalid, Unauthenticated, TooLarge, Failure),
)]
async fn login(
    State(auth): State<Auth>,
    Json(body): Json<Login>,
) -> Result<Json<LoggedIn>, ApiError> {
    // Parse.
    for (field, text) in [("identifier", &body.identifier), ("password", &body.password)] {
        if text.is_empty() || text.chars().count() > MAX_INPUT_CHARS {
            return Err(ApiError::field(
                field,
                format!("this has 1 to {MAX_INPUT_CHARS} characters"),
            ));
        }
    }

    // Authorise.
    let db = auth.database.open().await.map_err(unavailable)?;
    let found = store::login(&db, &body.identifier).await.map_err(unavailable)?;
    let hash = found.as_ref().map(|login| login.password_hash.as_str());
    let right = password::verify(&body.password, hash).map_err(ApiError::internal)?;
    let login = found.filter(|login| right && !login.disabled).ok_or(ApiError::Unauthenticated)?;
    let stronger =
        password::stronger(&body.password, &login.password_hash).map_err(ApiError::internal)?;

    // Act.
    let tx = db.begin().await.map_err(unavailable)?;
    if let Some(stronger) = stronger {
        store::rehash(&tx, login.user_id, &login.password_hash, &stronger)
            .await
            .map_err(unavailable)?;
    }
    let logged_in = start_session(&auth, &tx, login.user_id, (auth.clock)()).await?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(user.id = %login.user_id, "logged in");

    // Respond.
    Ok(Json(logged_in))
}

/// Exchanges a refresh token for the next pair. A token that was exchanged before ends the session.
#[utoipa::path(
    post,
    path = "/api/auth/refresh",
    tag = "accounts",
    request_body = Refresh,
    responses((status = 200, body = LoggedIn), Invalid, Unauthenticated, TooLarge, Failure),
)]
async fn refresh(
    State(auth): State<Auth>,
    Json(body): Json<Refresh>,
) -> Result<Json<LoggedIn>, ApiError> {
    let now_ms = (auth.clock)();
    let hash = hash_secret(&body.refresh_token);
    // The write lock comes first: of two that bring the same token at once, one finds it used.
    let tx = auth.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    let found = store::refresh_token(&tx, &hash, now_ms).await.map_err(unavailable)?;
    let token = found.filter(|token| token.session_live).ok_or(ApiError::Unauthenticated)?;
    // Before its age: a copy may turn up long after the session went on with newer tokens.
    if token.used {
        end_session(&tx, token.session_id, token.user_id, "refresh-token-reused", now_ms).await?;
        tx.commit().await.map_err(unavailable)?;
        tracing::warn!(user.id = %token.user_id, session.id = %token.session_id, "a refresh token was used twice");
        return Err(ApiError::Unauthenticated);
    }
    if token.expired {
        return Err(ApiError::Unauthenticated);
    }
    store::use_refresh_token(&tx, &hash, now_ms).await.map_err(unavailable)?;
    let refresh_token =
        add_refresh_token(&auth, &tx, token.session_id, now_ms, token.session_expires_at_ms)
            .await?;
    let token = auth.access_tokens.issue(token.user_id, token.session_id, auth.access_ttl).await?;
    tx.commit().await.map_err(unavailable)?;

    Ok(Json(LoggedIn { ok: true, token, refresh_token, expires_in: auth.access_ttl.as_secs() }))
}

/// Ends the caller's session: its tokens are refused from now on, and the streams it opened are closed.
#[utoipa::path(
    post,
    path = "/api/auth/logout",
    tag = "accounts",
    security(("token" = [])),
    responses((status = 200, body = LoggedOut), Unauthenticated, Failure),
)]
async fn logout(State(auth): State<Auth>, actor: Actor) -> Result<Json<LoggedOut>, ApiError> {
    let tx = auth.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    end_session(&tx, actor.session_id, actor.user_id, "logout", (auth.clock)()).await?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(user.id = %actor.user_id, "logged out");

    Ok(Json(LoggedOut { ok: true, message: "logged out" }))
}

/// Opens a session and its first pair of tokens.
pub(super) async fn start_session(
    auth: &Auth,
    db: &Db,
    user: UserId,
    now_ms: i64,
) -> Result<LoggedIn, ApiError> {
    let session = SessionId::random();
    let expires_at_ms = later(now_ms, auth.session_ttl);
    store::add_session(db, session, user, now_ms, expires_at_ms).await.map_err(unavailable)?;
    audit(db, user, "session.start", session, json!({}), now_ms).await?;
    let refresh_token = add_refresh_token(auth, db, session, now_ms, expires_at_ms).await?;
    let token = auth.access_tokens.issue(user, session, auth.access_ttl).await?;
    Ok(LoggedIn { ok: true, token, refresh_token, expires_in: auth.access_ttl.as_secs() })
}

async fn add_refresh_token(
    auth: &Auth,
    db: &Db,
    session: SessionId,
    now_ms: i64,
    session_expires_at_ms: i64,
) -> Result<String, ApiError> {
    let token = random_base64::<32>().map_err(ApiError::internal)?;
    let expires_at_ms = later(now_ms, auth.idle_ttl).min(session_expires_at_ms);
    store::add_refresh_token(db, &hash_secret(&token), session, now_ms, expires_at_ms)
        .await
        .map_err(unavailable)?;
    Ok(token)
}

async fn end_session(
    db: &Db,
    session: SessionId,
    user: UserId,
    reason: &str,
    now_ms: i64,
) -> Result<(), ApiError> {
    store::end_session(db, session, reason, now_ms).await.map_err(unavailable)?;
    audit(db, user, "session.end", session, json!({ "reason": reason }), now_ms).await
}

async fn audit(
    db: &Db,
    user: UserId,
    action: &str,
    session: SessionId,
    detail: serde_json::Value,
    at_ms: i64,
) -> Result<(), ApiError> {
    let (actor, target) = (user.to_string(), session.to_string());
    let act = Act { actor: &actor, action, target: &target, detail, at_ms };
    audit::append(db, &act).await.map_err(unavailable)
}

fn later(now_ms: i64, by: std::time::Duration) -> i64 {
    now_ms.saturating_add(i64::try_from(by.as_millis()).unwrap_or(i64::MAX))
}
