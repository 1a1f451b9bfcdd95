//! What a host-proxy asks before it lets a client through to an IDE or another stream.

use axum::Router;
use axum::extract::State;
use axum::routing::post;
use zlh_agent_protocol::internal::{
    CheckIde, CheckStream, IdeAccess, IdeCredential, IdeGrant, OpenIde, OpenedIde, RevalidateIde,
    RevalidatedIde, StreamAccess,
};
use zlh_api::{ApiError, Json};
use zlh_authn::HostProxy;
use zlh_authn::token::{hash_secret, random_base64};
use zlh_ids::Vmid;
use zlh_storage::Db;

use super::{Tokens, unavailable};
use crate::model::{Opens, StreamToken};
use crate::store;

/// Most accesses that one revalidation may ask about.
const MAX_ACCESSES: usize = 1_000;

pub(super) fn router() -> Router<Tokens> {
    Router::new()
        .route("/internal/ide/open", post(open_ide))
        .route("/internal/ide/check", post(check_ide))
        .route("/internal/ide/revalidate", post(revalidate_ide))
        .route("/internal/streams/check", post(check_stream))
}

/// Exchanges a token, once, for a session.
async fn open_ide(
    State(tokens): State<Tokens>,
    _: HostProxy,
    Json(body): Json<OpenIde>,
) -> Result<Json<OpenedIde>, ApiError> {
    let now_ms = (tokens.clock)();
    let token = token_for(&tokens, Opens::Ide, body.vmid, &body.token).await?;
    let tx =
        tokens.database.open().await.map_err(unavailable)?.begin().await.map_err(unavailable)?;
    if !store::use_up(&tx, &token).await.map_err(unavailable)? {
        return Err(ApiError::Unauthenticated);
    }
    let expires_at_ms = stream_end(&tokens, now_ms);
    let access = access(&tx, grant(&token), now_ms, expires_at_ms).await?;
    let session = random_base64::<32>().map_err(ApiError::internal)?;
    store::add_session(&tx, &hash_secret(&session), &grant(&token), now_ms, expires_at_ms)
        .await
        .map_err(unavailable)?;
    tx.commit().await.map_err(unavailable)?;
    tracing::info!(user.id = %access.user_id, vmid = %access.vmid, "opened an IDE");

    Ok(Json(OpenedIde { session, max_age_seconds: tokens.session_ttl.as_secs(), access }))
}

/// Answers whether a session or token may use an IDE now.
async fn check_ide(
    State(tokens): State<Tokens>,
    _: HostProxy,
    Json(body): Json<CheckIde>,
) -> Result<Json<IdeAccess>, ApiError> {
    let now_ms = (tokens.clock)();
    let db = tokens.database.open().await.map_err(unavailable)?;
    let (grant, expires_at_ms) = match body.credential {
        IdeCredential::Session(secret) => {
            store::session(&db, &hash_secret(&secret), body.vmid, now_ms)
                .await
                .map_err(unavailable)?
                .ok_or(ApiError::Unauthenticated)?
        }
        IdeCredential::Token(token) => {
            let token = token_for(&tokens, Opens::Ide, body.vmid, &token).await?;
            if store::is_used(&db, &token).await.map_err(unavailable)? {
                return Err(ApiError::Unauthenticated);
            }
            (grant(&token), token.expires_at_ms)
        }
    };
    access(&db, grant, now_ms, expires_at_ms).await.map(Json)
}

/// Answers whether a token may open a stream now.
async fn check_stream(
    State(tokens): State<Tokens>,
    _: HostProxy,
    Json(body): Json<CheckStream>,
) -> Result<Json<StreamAccess>, ApiError> {
    let now_ms = (tokens.clock)();
    let token = token_for(&tokens, Opens::Stream(body.kind), body.vmid, &body.token).await?;
    let grant = grant(&token);
    let db = tokens.database.open().await.map_err(unavailable)?;
    if !store::login_holds(&db, &grant, now_ms).await.map_err(unavailable)? {
        return Err(ApiError::Unauthenticated);
    }
    let container = store::granted_container(&db, &grant).await.map_err(unavailable)?;
    let container = container.ok_or(ApiError::NotFound)?;
    let agent_address = container
        .agent_address
        .ok_or_else(|| ApiError::conflict("the container is still being created"))?;
    let expires_at_ms = stream_end(&tokens, now_ms);
    let machine = container.machine;
    Ok(Json(StreamAccess { grant, ctype: container.ctype, agent_address, machine, expires_at_ms }))
}

/// When what is opened now must end at the latest.
fn stream_end(tokens: &Tokens, now_ms: i64) -> i64 {
    now_ms.saturating_add(i64::try_from(tokens.session_ttl.as_millis()).unwrap_or(i64::MAX))
}

/// Says which of the open streams have lost what they hang on.
async fn revalidate_ide(
    State(tokens): State<Tokens>,
    _: HostProxy,
    Json(body): Json<RevalidateIde>,
) -> Result<Json<RevalidatedIde>, ApiError> {
    if body.accesses.len() > MAX_ACCESSES {
        return Err(ApiError::field("accesses", format!("at most {MAX_ACCESSES} at a time")));
    }
    let now_ms = (tokens.clock)();
    let db = tokens.database.open().await.map_err(unavailable)?;
    let mut revoked = Vec::new();
    for access in body.accesses {
        let holds = store::login_holds(&db, &access, now_ms).await.map_err(unavailable)?
            && store::granted_container(&db, &access).await.map_err(unavailable)?.is_some();
        if !holds {
            revoked.push(access);
        }
    }
    Ok(Json(RevalidatedIde { revoked }))
}

/// The token's claims, if it is for this container.
async fn token_for(
    tokens: &Tokens,
    opens: Opens,
    vmid: Vmid,
    token: &str,
) -> Result<StreamToken, ApiError> {
    let token = tokens.stream_tokens.verify(opens, token).await?;
    if token.vmid == vmid { Ok(token) } else { Err(ApiError::Unauthenticated) }
}

fn grant(token: &StreamToken) -> IdeGrant {
    IdeGrant {
        vmid: token.vmid,
        instance_id: token.instance_id,
        user_id: token.user_id,
        session_id: token.session_id,
    }
}

async fn access(
    db: &Db,
    grant: IdeGrant,
    now_ms: i64,
    expires_at_ms: i64,
) -> Result<IdeAccess, ApiError> {
    if !store::login_holds(db, &grant, now_ms).await.map_err(unavailable)? {
        return Err(ApiError::Unauthenticated);
    }
    let ide = store::granted_ide(db, &grant).await.map_err(unavailable)?;
    let ide = ide.ok_or(ApiError::NotFound)?;
    let ide_address = ide.ide_address.ok_or(ApiError::NotFound)?;
    Ok(IdeAccess {
        vmid: grant.vmid,
        instance_id: grant.instance_id,
        user_id: grant.user_id,
        session_id: grant.session_id,
        ide_address,
        machine: ide.machine,
        expires_at_ms,
    })
}
