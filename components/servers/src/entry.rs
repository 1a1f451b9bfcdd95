//! The WASI export. Wiring only.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use spin_sdk::http::{IntoResponse, Request};
use spin_sdk::http_service;
use zlh_agent_protocol::artifact::{DEV_CATALOG_PATH, DevCatalog, GAME_CATALOG_PATH};
use zlh_agent_protocol::game::GameCatalog;
use zlh_agent_protocol::internal::Observation;
use zlh_agents::Agents;
use zlh_api::ApiError;
use zlh_authn::guest::IdentityVerifier;
use zlh_authn::with_verifier;
use zlh_guest::{KeyValue, KeyValueError, parsed_variable, send, serve, system_clock, variable};
use zlh_ids::Vmid;
use zlh_storage::Database;

use crate::routes::{AgentCache, Catalog, Servers, router};

/// Longest catalogue that is read, in bytes.
const MAX_CATALOG_BYTES: usize = 1024 * 1024;
/// Longest answer of an agent that is read, in bytes; a list of players is the longest.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

#[http_service]
async fn handle(request: Request) -> impl IntoResponse {
    serve(request, async || {
        let servers = Servers {
            database: Database,
            agents: Arc::new(KeyValueAgents),
            agent_calls: Agents::from_variables(MAX_ANSWER_BYTES).await?,
            catalog: Arc::new(ArtifactStore { base_url: variable("artifact_base_url").await? }),
            max_instances_per_user: parsed_variable("max_instances_per_user", "a number").await?,
            clock: system_clock,
        };
        Ok(with_verifier(router(servers), IdentityVerifier(Database)))
    })
    .await
}

/// Open for as long as the instance lives.
static STORE: OnceLock<KeyValue> = OnceLock::new();

/// The key-value store `agents`.
struct KeyValueAgents;

#[async_trait]
impl AgentCache for KeyValueAgents {
    async fn observations(&self, vmids: &[Vmid]) -> HashMap<Vmid, Observation> {
        let mut found = HashMap::new();
        if let Err(error) = read(vmids, &mut found).await {
            tracing::warn!(%error, "the cache of agents could not be read");
        }
        found
    }
}

async fn read(vmids: &[Vmid], found: &mut HashMap<Vmid, Observation>) -> Result<(), KeyValueError> {
    let store = match STORE.get() {
        Some(store) => store,
        None => {
            let opened = KeyValue::open("agents").await?;
            STORE.get_or_init(|| opened)
        }
    };
    for vmid in vmids {
        let value = store.get(&format!("agent:{vmid}")).await?;
        let observation = value.and_then(|json| serde_json::from_slice(&json).ok());
        found.extend(observation.map(|observation| (*vmid, observation)));
    }
    Ok(())
}

/// The artifact store over HTTP.
struct ArtifactStore {
    base_url: String,
}

#[async_trait]
impl Catalog for ArtifactStore {
    async fn dev(&self) -> Result<DevCatalog, ApiError> {
        self.read(DEV_CATALOG_PATH).await
    }

    async fn games(&self) -> Result<GameCatalog, ApiError> {
        self.read(GAME_CATALOG_PATH).await
    }
}

impl ArtifactStore {
    async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ApiError> {
        let url = format!("{}{path}", self.base_url.trim_end_matches('/'));
        let request = http::Request::get(url).body(Bytes::new()).map_err(ApiError::internal)?;
        let answer = send(request, MAX_CATALOG_BYTES).await.map_err(ApiError::unavailable)?;
        if answer.status() != http::StatusCode::OK {
            return Err(ApiError::unavailable(format!(
                "the artifact store answered {}",
                answer.status()
            )));
        }
        serde_json::from_slice(answer.body()).map_err(ApiError::unavailable)
    }
}
