//! The WASI export. Wiring only.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::http_service;
use zlh_api::ApiError;
use zlh_authn::guest::{Grant, GrantKind, IdentityVerifier, Kind, issue, verify};
use zlh_authn::{AuthFailure, with_verifier};
use zlh_guest::{VariableError, parsed_variable, seconds_variable, serve, system_clock, variable};
use zlh_ids::{SessionId, UserId, Vmid};
use zlh_storage::Database;

use crate::model::{Ide, IdeToken, IdeUrls};
use crate::routes::{IdeTokens, Tokens, router};

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    serve(request, async || {
        let tokens = Tokens {
            database: Database,
            ide_tokens: Arc::new(Identity),
            urls: urls().await?,
            ide_ttl: seconds_variable("api_auth_ide_ttl_seconds").await?,
            session_ttl: seconds_variable("ide_session_ttl_seconds").await?,
            clock: system_clock,
        };
        Ok(with_verifier(router(tokens), IdentityVerifier(Database)))
    })
    .await
}

async fn urls() -> Result<IdeUrls, VariableError> {
    if parsed_variable("dev_ide_return_hosted_url", "`true` or `false`").await? {
        let scheme = variable("dev_ide_public_scheme").await?;
        Ok(IdeUrls::Hosted { scheme, suffix: variable("dev_ide_host_suffix").await? })
    } else {
        Ok(IdeUrls::Tunnel)
    }
}

/// Tokens from whatever implements `zlh:identity`.
struct Identity;

#[async_trait]
impl IdeTokens for Identity {
    async fn issue(
        &self,
        ide: &Ide,
        user: UserId,
        session: SessionId,
        ttl: Duration,
    ) -> Result<String, ApiError> {
        let grant = Grant {
            kind: GrantKind::DevIde,
            subject: user.to_string(),
            session: Some(session.to_string()),
            vmid: Some(ide.vmid.get()),
            instance: Some(ide.instance_id.to_string()),
            ttl_seconds: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
        };
        issue(grant).await
    }

    async fn verify(&self, token: &str) -> Result<IdeToken, ApiError> {
        let claims = verify(token.to_owned(), Kind::DevIde).await?;
        let read = || {
            Some(IdeToken {
                jti: claims.token_id.clone(),
                user_id: claims.subject.parse().ok()?,
                session_id: claims.session.as_deref()?.parse().ok()?,
                vmid: Vmid::new(claims.vmid?)?,
                instance_id: claims.instance.as_deref()?.parse().ok()?,
                expires_at_ms: claims.expires_at.checked_mul(1000)?,
            })
        };
        read().ok_or_else(|| AuthFailure::Rejected.into())
    }
}
