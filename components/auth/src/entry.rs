//! The WASI export. Wiring only.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::http_service;
use zlh_api::ApiError;
use zlh_authn::guest::{Grant, GrantKind, IdentityVerifier, issue};
use zlh_authn::with_verifier;
use zlh_guest::{seconds_variable, serve, system_clock};
use zlh_ids::{SessionId, UserId};
use zlh_storage::Database;

use crate::routes::{AccessTokens, Auth, router};

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    serve(request, async || {
        let auth = Auth {
            database: Database,
            access_tokens: Arc::new(Identity),
            access_ttl: seconds_variable("api_auth_ttl_seconds").await?,
            idle_ttl: seconds_variable("refresh_ttl_seconds").await?,
            session_ttl: seconds_variable("session_ttl_seconds").await?,
            clock: system_clock,
        };
        Ok(with_verifier(router(auth), IdentityVerifier(Database)))
    })
    .await
}

/// Tokens from whatever implements `zlh:identity`.
struct Identity;

#[async_trait]
impl AccessTokens for Identity {
    async fn issue(
        &self,
        user: UserId,
        session: SessionId,
        ttl: Duration,
    ) -> Result<String, ApiError> {
        let grant = Grant {
            kind: GrantKind::Access,
            subject: user.to_string(),
            session: Some(session.to_string()),
            vmid: None,
            instance: None,
            ttl_seconds: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
        };
        issue(grant).await
    }
}
