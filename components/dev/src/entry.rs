//! The WASI export. Wiring only.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use spin_sdk::http::IntoResponse;
use spin_sdk::http_service;
use zlh_api::ApiError;
use zlh_authn::guest::IdentityVerifier;
use zlh_authn::with_verifier;
use zlh_guest::{send, serve, system_clock, variable};
use zlh_storage::Database;

use crate::routes::{AgentClient, Dev, router};

/// Longest answer of an agent that is read, in bytes; theirs have a few hundred.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

#[http_service]
async fn handle(request: spin_sdk::http::Request) -> impl IntoResponse {
    serve(request, async || {
        let dev = Dev {
            database: Database,
            agents: Arc::new(Http),
            agent_token_secret: variable("agent_token_secret").await?,
            clock: system_clock,
        };
        Ok(with_verifier(router(dev), IdentityVerifier(Database)))
    })
    .await
}

/// Agents over HTTP.
struct Http;

#[async_trait]
impl AgentClient for Http {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ApiError> {
        send(request, MAX_ANSWER_BYTES).await.map_err(ApiError::unavailable)
    }
}
