//! Logins: how they start, go on and end.

use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use zlh_api::{ApiError, Client, Failure, Invalid, Json, RateLimited, TooLarge, Unauthenticated};
use zlh_authn::Actor;
use zlh_authn::token::{hash_secret, random_base64};
use zlh_ids::{SessionId, UserId};
use zlh_storage::Db;
use zlh_storage::audit::{self, Act};

use super::{Auth, Done, unavailable};
use crate::password;
use crate::store;
use crate::store::sessions;
use crate::throttle::{Admission, Attempt, Target};

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

/// Starts a session.
#[utoipa::path(
    post,
    path = "/api/auth/login",
    tag = "accounts",
    request_body = Login,
    responses(
        (status = 200, body = LoggedIn),
        Invalid,
        Unauthenticated,
        TooLarge,
        RateLimited,
        Failure,
    ),
)]
async fn login(
    State(auth): State<Auth>,
    client: Client,
    Json(body): Json<Login>,
) -> Result<Json<LoggedIn>, ApiError> {
    // Parse.
    let identifier = parse_given("identifier", body.identifier)?;
    let password = parse_given("password", body.password)?;

    // Authorise.
    let db = auth.database.open().await.map_err(unavailable)?;
    let found = store::login(&db, &identifier).await.map_err(unavailable)?;
    let attempt = match &found {
        Some(login) => admit_user(&auth, login.user_id, &client).await?,
        None => admit(&auth, &identifier.to_lowercase(), false, &client).await?,
    };
    let hash = found.as_ref().map(|login| login.password_hash.as_str());
    let right = password::verify(&password, hash).map_err(ApiError::internal)?;
    let login = found.filter(|login| right && !login.disabled).ok_or(ApiError::Unauthenticated)?;
    let stronger =
        password::stronger(&password, &login.password_hash).map_err(ApiError::internal)?;

    // Act.
    let tx = db.begin().await.map_err(unavailable)?;
    if let Some(stronger) = stronger {
        store::rehash(&tx, login.user_id, &login.password_hash, &stronger)
            .await
            .map_err(unavailable)?;
    }
    attempt.succeeded(&tx).await.map_err(unavailable)?;
    let logged_in = start_session(&auth, &tx, login.user_id, &client, (auth.clock)()).await?;
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
    let found = sessions::refresh_token(&tx, &hash, now_ms).await.map_err(unavailable)?;
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
    sessions::use_refresh_token(&tx, &hash, token.session_id, now_ms).await.map_err(unavailable)?;
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
    responses((status = 200, body = Done), Unauthenticated, Failure),
)]
async fn logout(State(auth): State<Auth>, actor: Actor) -> Result<Json<Done>, ApiError> {
    let tx = auth.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    end_session(&tx, actor.session_id, actor.user_id, "logout", (auth.clock)()).await?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(user.id = %actor.user_id, "logged out");

    Ok(Done::because("logged out"))
}

/// Opens a session and its first pair of tokens.
pub(super) async fn start_session(
    auth: &Auth,
    db: &Db,
    user: UserId,
    client: &Client,
    now_ms: i64,
) -> Result<LoggedIn, ApiError> {
    let session = SessionId::random();
    let expires_at_ms = later(now_ms, auth.session_ttl);
    sessions::add_session(db, session, user, client, now_ms, expires_at_ms)
        .await
        .map_err(unavailable)?;
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
    sessions::add_refresh_token(db, &hash_secret(&token), session, now_ms, expires_at_ms)
        .await
        .map_err(unavailable)?;
    Ok(token)
}

/// A text to be looked up or compared.
pub(super) fn parse_given(field: &'static str, text: String) -> Result<String, ApiError> {
    if (1..=MAX_INPUT_CHARS).contains(&text.chars().count()) {
        return Ok(text);
    }
    Err(ApiError::field(field, format!("this has 1 to {MAX_INPUT_CHARS} characters")))
}

/// Ends a session. False when it was over already.
pub(super) async fn end_session(
    db: &Db,
    session: SessionId,
    user: UserId,
    reason: &str,
    now_ms: i64,
) -> Result<bool, ApiError> {
    let ended =
        sessions::end_session(db, session, user, reason, now_ms).await.map_err(unavailable)?;
    if ended {
        audit(db, user, "session.end", session, json!({ "reason": reason }), now_ms).await?;
    }
    Ok(ended)
}

/// Ends all sessions of a user but one.
pub(super) async fn end_sessions(
    db: &Db,
    user: UserId,
    but: Option<SessionId>,
    reason: &str,
    now_ms: i64,
) -> Result<(), ApiError> {
    let ended = sessions::end_sessions(db, user, but, reason, now_ms).await.map_err(unavailable)?;
    for session in ended {
        audit(db, user, "session.end", session, json!({ "reason": reason }), now_ms).await?;
    }
    Ok(())
}

/// An attempt at the password of an account, unless it is too early for one.
pub(super) async fn admit_user(
    auth: &Auth,
    user: UserId,
    client: &Client,
) -> Result<Attempt, ApiError> {
    let known = match &client.network {
        Some(network) => {
            let db = auth.database.open().await.map_err(unavailable)?;
            sessions::knows_network(&db, user, network).await.map_err(unavailable)?
        }
        None => false,
    };
    admit(auth, &user.to_string(), known, client).await
}

async fn admit(
    auth: &Auth,
    account: &str,
    known: bool,
    client: &Client,
) -> Result<Attempt, ApiError> {
    let target = Target { account, network: client.network.as_deref(), known };
    match Attempt::begin(&auth.database, &target, (auth.clock)()).await.map_err(unavailable)? {
        Admission::Admitted(attempt) => Ok(attempt),
        Admission::Wait(retry_after) => Err(ApiError::RateLimited { retry_after }),
    }
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
