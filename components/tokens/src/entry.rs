//! The WASI export. Wiring only.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::http_service;
use zlh_agent_protocol::internal::{IdeGrant, StreamKind};
use zlh_api::ApiError;
use zlh_authn::guest::{Grant, GrantKind, IdentityVerifier, Kind, issue, verify};
use zlh_authn::{AuthFailure, with_verifier};
use zlh_guest::{VariableError, parsed_variable, seconds_variable, serve, system_clock, variable};
use zlh_ids::Vmid;
use zlh_storage::Database;

use crate::model::{IdeUrls, Opens, StreamToken};
use crate::routes::{StreamTokens, Tokens, router};

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    serve(request, async || {
        let tokens = Tokens {
            database: Database,
            stream_tokens: Arc::new(Identity),
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
impl StreamTokens for Identity {
    async fn issue(
        &self,
        opens: Opens,
        grant: &IdeGrant,
        ttl: Duration,
    ) -> Result<String, ApiError> {
        let grant = Grant {
            kind: match opens {
                Opens::Ide => GrantKind::DevIde,
                Opens::Stream(StreamKind::Console) => GrantKind::Console,
                Opens::Stream(StreamKind::Upload) => GrantKind::Upload,
            },
            subject: grant.user_id.to_string(),
            session: Some(grant.session_id.to_string()),
            vmid: Some(grant.vmid.get()),
            instance: Some(grant.instance_id.to_string()),
            ttl_seconds: u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX),
        };
        issue(grant).await
    }

    async fn verify(&self, opens: Opens, token: &str) -> Result<StreamToken, ApiError> {
        let kind = match opens {
            Opens::Ide => Kind::DevIde,
            Opens::Stream(StreamKind::Console) => Kind::Console,
            Opens::Stream(StreamKind::Upload) => Kind::Upload,
        };
        let claims = verify(token.to_owned(), kind).await?;
        let read = || {
            Some(StreamToken {
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
