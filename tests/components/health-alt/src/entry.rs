//! The WASI export: `platform`'s own routes behind another answer to `/api/health`.

use std::sync::Arc;

use async_trait::async_trait;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::http_service;
use zlh_agent_protocol::internal::Observation;
use zlh_api::{ApiError, Json};
use zlh_authn::guest::IdentityVerifier;
use zlh_authn::with_verifier;
use zlh_guest::{KeyValue, parsed_variable, serve, system_clock, variable};
use zlh_ids::Vmid;
use zlh_storage::Database;

use crate::routes::{AgentCache, Platform, router};

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    serve(request, async || {
        let platform = Platform {
            database: Database,
            agents: Arc::new(KeyValueAgents),
            public_keys: variable("token_public_keys").await?,
            port_range: parsed_variable("port_range", "two ports, as in `50000-50999`").await?,
            clock: system_clock,
        };
        let first = with_verifier(router(platform), IdentityVerifier(Database));
        Ok(first.layer(from_fn(health)))
    })
    .await
}

/// Answers `/api/health` itself.
async fn health(request: axum::extract::Request, first: Next) -> Response {
    if request.uri().path() == "/api/health" {
        let health = json!({ "status": "ok", "service": "zlh-alt", "time": "" });
        return Json(health).into_response();
    }
    first.run(request).await
}

struct KeyValueAgents;

#[async_trait]
impl AgentCache for KeyValueAgents {
    async fn put(&self, observations: &[Observation]) -> Result<(), ApiError> {
        let store = KeyValue::open("agents").await.map_err(ApiError::unavailable)?;
        for observation in observations {
            let json = serde_json::to_vec(observation).map_err(ApiError::internal)?;
            let key = format!("agent:{}", observation.vmid);
            store.set(&key, &json).await.map_err(ApiError::unavailable)?;
        }
        Ok(())
    }

    async fn remove(&self, vmid: Vmid) -> Result<(), ApiError> {
        let store = KeyValue::open("agents").await.map_err(ApiError::unavailable)?;
        store.delete(&format!("agent:{vmid}")).await.map_err(ApiError::unavailable)
    }
}
