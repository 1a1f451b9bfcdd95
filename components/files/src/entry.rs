//! The WASI export. Wiring only.

use spin_sdk::http::IntoResponse;
use spin_sdk::http_service;
use zlh_agents::Agents;
use zlh_authn::guest::IdentityVerifier;
use zlh_authn::with_verifier;
use zlh_guest::{serve, system_clock};
use zlh_storage::Database;

use crate::routes::{Files, router};

/// Longest answer of an agent that is read, in bytes: a text file as JSON.
const MAX_ANSWER_BYTES: usize = 7 << 20;

#[http_service]
async fn handle(request: spin_sdk::http::Request) -> impl IntoResponse {
    serve(request, async || {
        let files = Files {
            database: Database,
            agents: Agents::from_variables(MAX_ANSWER_BYTES).await?,
            clock: system_clock,
        };
        Ok(with_verifier(router(files), IdentityVerifier(Database)))
    })
    .await
}
