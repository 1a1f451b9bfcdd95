//! The WASI export. Wiring only.

use spin_sdk::http::IntoResponse;
use spin_sdk::http_service;
use zlh_agents::Agents;
use zlh_authn::guest::IdentityVerifier;
use zlh_authn::with_verifier;
use zlh_guest::{serve, system_clock};
use zlh_storage::Database;

use crate::routes::{Dev, router};

/// Longest answer of an agent that is read, in bytes; theirs have a few hundred.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

#[http_service]
async fn handle(request: spin_sdk::http::Request) -> impl IntoResponse {
    serve(request, async || {
        let dev = Dev {
            database: Database,
            agents: Agents::from_variables(MAX_ANSWER_BYTES).await?,
            clock: system_clock,
        };
        Ok(with_verifier(router(dev), IdentityVerifier(Database)))
    })
    .await
}
