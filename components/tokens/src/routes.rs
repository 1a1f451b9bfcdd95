//! Handlers: an IDE token for customers, `internal` for host-proxies.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use zlh_api::{ApiError, Conflict, Failure, Json, NotFound, Path, Unauthenticated};
use zlh_authn::Actor;
use zlh_guest::Clock;
use zlh_ids::{SessionId, UserId, Vmid};
use zlh_storage::{Database, StoreError};

use crate::model::{Ide, IdeToken, IdeUrls};
use crate::store;

mod internal;

/// Makes and reads IDE tokens.
#[async_trait]
pub trait IdeTokens: Send + Sync + 'static {
    /// A token that opens the IDE for that long.
    async fn issue(
        &self,
        ide: &Ide,
        user: UserId,
        session: SessionId,
        ttl: Duration,
    ) -> Result<String, ApiError>;

    /// What a token says, or [`ApiError::Unauthenticated`].
    async fn verify(&self, token: &str) -> Result<IdeToken, ApiError>;
}

/// What the handlers work with.
#[derive(Clone)]
pub struct Tokens {
    /// Where everything is stored.
    pub database: Database,
    /// Makes and reads tokens.
    pub ide_tokens: Arc<dyn IdeTokens>,
    /// Where browsers find IDEs.
    pub urls: IdeUrls,
    /// How long an IDE token lives (D07).
    pub ide_ttl: Duration,
    /// How long an IDE may stay open without another token.
    pub session_ttl: Duration,
    /// The time.
    pub clock: Clock,
}

zlh_api::operations!(pub Tokens: create_ide_token);

/// The routes of this component, those for host-proxies included.
pub fn router(tokens: Tokens) -> Router {
    routes().merge(internal::router()).with_state(tokens)
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatedIdeToken {
    token: String,
    url: String,
    expires_in: u64,
}

/// Issues a token that opens one's own dev container's IDE.
#[utoipa::path(
    post,
    path = "/api/dev/{id}/ide-token",
    tag = "dev containers",
    params(("id" = Vmid, Path)),
    security(("token" = [])),
    responses((status = 200, body = CreatedIdeToken), Unauthenticated, NotFound, Conflict, Failure),
)]
async fn create_ide_token(
    State(tokens): State<Tokens>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
) -> Result<Json<CreatedIdeToken>, ApiError> {
    // Authorise.
    let db = tokens.database.open().await.map_err(unavailable)?;
    let ide = store::own_ide(&db, actor.user_id, vmid).await.map_err(unavailable)?;
    let ide = ide.ok_or(ApiError::NotFound)?;
    if ide.ide_address.is_none() {
        return Err(ApiError::conflict("the dev container has no IDE yet"));
    }

    // Act.
    let token =
        tokens.ide_tokens.issue(&ide, actor.user_id, actor.session_id, tokens.ide_ttl).await?;
    tracing::info!(user.id = %actor.user_id, vmid = %vmid, "issued an IDE token");

    // Respond.
    let url = tokens.urls.url(vmid, &token);
    Ok(Json(CreatedIdeToken { token, url, expires_in: tokens.ide_ttl.as_secs() }))
}

fn unavailable(error: StoreError) -> ApiError {
    ApiError::unavailable(error)
}

#[cfg(test)]
mod tests;
