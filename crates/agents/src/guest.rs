//! Agents as a component reaches them: over the host's HTTP, on the way that its variables name.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use zlh_api::ApiError;
use zlh_authn::guest::{Grant, GrantKind, issue};
use zlh_guest::{VariableError, optional_variable, variable};

use crate::{Agent, AgentClient, Agents, GatewayTokens};

/// A token is used at once.
const TOKEN_TTL_SECONDS: u32 = 60;

impl Agents {
    /// Agents behind the gateway that `agent_gateway_url` names; where it names none, at their own addresses.
    /// An answer longer than so many bytes is none.
    ///
    /// # Errors
    ///
    /// A variable that is needed was not granted.
    pub async fn from_variables(max_answer_bytes: usize) -> Result<Self, VariableError> {
        let client = Arc::new(HttpAgents { max_answer_bytes });
        match optional_variable("agent_gateway_url").await?.filter(|url| !url.is_empty()) {
            Some(url) => Ok(Self::behind(client, &url, Arc::new(Identity))),
            None => Ok(Self::new(client, variable("agent_token_secret").await?)),
        }
    }
}

struct HttpAgents {
    max_answer_bytes: usize,
}

#[async_trait]
impl AgentClient for HttpAgents {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ApiError> {
        zlh_guest::send(request, self.max_answer_bytes).await.map_err(ApiError::unavailable)
    }
}

/// Tokens from whatever implements `zlh:identity`.
struct Identity;

#[async_trait]
impl GatewayTokens for Identity {
    async fn token(&self, agent: &Agent) -> Result<String, ApiError> {
        issue(Grant {
            kind: GrantKind::Internal,
            subject: "component".to_owned(),
            session: None,
            vmid: Some(agent.vmid.get()),
            instance: Some(agent.instance_id.to_string()),
            ttl_seconds: TOKEN_TTL_SECONDS,
        })
        .await
    }
}
