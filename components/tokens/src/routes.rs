//! Handlers: tokens for customers, `internal` for host-proxies.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zlh_agent_protocol::internal::{IdeGrant, StreamKind};
use zlh_api::{
    ApiError, Conflict, Failure, Invalid, Json, NotFound, Path, TooLarge, Unauthenticated,
};
use zlh_authn::Actor;
use zlh_guest::Clock;
use zlh_ids::{InstanceId, Vmid};
use zlh_storage::{Database, StoreError};

use crate::model::{IdeUrls, Opens, StreamToken};
use crate::store;

mod internal;

/// Makes and reads tokens that open something.
#[async_trait]
pub trait StreamTokens: Send + Sync + 'static {
    /// A token that opens this for that long.
    async fn issue(
        &self,
        opens: Opens,
        grant: &IdeGrant,
        ttl: Duration,
    ) -> Result<String, ApiError>;

    /// What a token says, or [`ApiError::Unauthenticated`].
    async fn verify(&self, opens: Opens, token: &str) -> Result<StreamToken, ApiError>;
}

/// What the handlers work with.
#[derive(Clone)]
pub struct Tokens {
    /// Where everything is stored.
    pub database: Database,
    /// Makes and reads tokens.
    pub stream_tokens: Arc<dyn StreamTokens>,
    /// Where browsers find IDEs.
    pub urls: IdeUrls,
    /// How long a token lives until something is opened with it (D07).
    pub ide_ttl: Duration,
    /// How long an IDE or stream may stay open without another token.
    pub session_ttl: Duration,
    /// The time.
    pub clock: Clock,
}

zlh_api::operations!(pub Tokens: create_ide_token, create_stream_token);

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
    let grant = grant(&actor, vmid, ide.instance_id);
    let token = tokens.stream_tokens.issue(Opens::Ide, &grant, tokens.ide_ttl).await?;
    tracing::info!(user.id = %actor.user_id, vmid = %vmid, "issued an IDE token");

    // Respond.
    let url = tokens.urls.url(vmid, &token);
    Ok(Json(CreatedIdeToken { token, url, expires_in: tokens.ide_ttl.as_secs() }))
}

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateStreamToken {
    kind: StreamKind,
}

#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreatedStreamToken {
    token: String,
    expires_in: u64,
}

/// Issues a token that opens the console of one's own server or dev container, or streams its files.
#[utoipa::path(
    post,
    path = "/api/servers/{id}/stream-token",
    tag = "servers",
    params(("id" = Vmid, Path)),
    request_body = CreateStreamToken,
    security(("token" = [])),
    responses(
        (status = 200, body = CreatedStreamToken),
        Invalid, Unauthenticated, NotFound, Conflict, TooLarge, Failure
    ),
)]
async fn create_stream_token(
    State(tokens): State<Tokens>,
    actor: Actor,
    Path(vmid): Path<Vmid>,
    Json(body): Json<CreateStreamToken>,
) -> Result<Json<CreatedStreamToken>, ApiError> {
    // Authorise.
    let db = tokens.database.open().await.map_err(unavailable)?;
    let container = store::own_container(&db, actor.user_id, vmid).await.map_err(unavailable)?;
    let container = container.ok_or(ApiError::NotFound)?;
    if container.agent_address.is_none() {
        return Err(ApiError::conflict("the container is still being created"));
    }

    // Act.
    let grant = grant(&actor, vmid, container.instance_id);
    let opens = Opens::Stream(body.kind);
    let token = tokens.stream_tokens.issue(opens, &grant, tokens.ide_ttl).await?;
    tracing::info!(user.id = %actor.user_id, %vmid, kind = body.kind.as_str(), "issued a stream token");

    // Respond.
    Ok(Json(CreatedStreamToken { token, expires_in: tokens.ide_ttl.as_secs() }))
}

fn grant(actor: &Actor, vmid: Vmid, instance_id: InstanceId) -> IdeGrant {
    IdeGrant { vmid, instance_id, user_id: actor.user_id, session_id: actor.session_id }
}

fn unavailable(error: StoreError) -> ApiError {
    ApiError::unavailable(error)
}

#[cfg(test)]
mod tests;
