//! How components ask agents on behalf of a customer: with the container's own credential, without following
//! redirects, and with refusals that say whose they are.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use utoipa::IntoResponses;
use zlh_agent_protocol::agent::agent_token;
use zlh_api::{ApiError, ErrorBody};
use zlh_ids::{InstanceId, Vmid};

/// Carries requests to agents; follows no redirect.
#[async_trait]
pub trait AgentClient: Send + Sync + 'static {
    /// An answer of any status, or [`ApiError::Unavailable`].
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ApiError>;
}

/// Agents over the host's HTTP.
#[cfg(target_family = "wasm")]
pub struct HttpAgents {
    /// Longest answer that is read, in bytes.
    pub max_answer_bytes: usize,
}

#[cfg(target_family = "wasm")]
#[async_trait]
impl AgentClient for HttpAgents {
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ApiError> {
        zlh_guest::send(request, self.max_answer_bytes).await.map_err(ApiError::unavailable)
    }
}

/// What becomes of an agent that does not do it.
#[derive(IntoResponses)]
pub enum Refused {
    /// 502.
    #[response(status = 502, description = "The agent did not answer as agents do")]
    Broken(ErrorBody),
    /// Whatever status the agent refused with.
    #[response(status = "default", description = "The agent refused; `details` has its words")]
    ByAgent(ErrorBody),
}

/// One container's agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance_id: InstanceId,
    /// `host:port` of the agent.
    pub address: String,
}

/// Every container's agent.
#[derive(Clone)]
pub struct Agents {
    client: Arc<dyn AgentClient>,
    secret: String,
}

impl Agents {
    /// Agents whose tokens are made with the secret.
    #[must_use]
    pub fn new(client: Arc<dyn AgentClient>, secret: String) -> Self {
        Self { client, secret }
    }

    /// Asks an agent, and reads what it answers. `act` completes the sentence "the agent could not …"; `body`
    /// is JSON, or empty. An answer without content is read as `null`.
    ///
    /// # Errors
    ///
    /// [`ApiError::Unavailable`] when it does not answer, [`ApiError::Agent`] when it refuses or answers
    /// something else.
    pub async fn ask<T: DeserializeOwned>(
        &self,
        agent: &Agent,
        (method, path): (Method, &str),
        body: Bytes,
        act: &str,
    ) -> Result<(StatusCode, T), ApiError> {
        let answer = self.send(agent, (method, path), body).await?;
        let body: &[u8] = match answer.status() {
            StatusCode::NO_CONTENT => b"null",
            _ => answer.body(),
        };
        match serde_json::from_slice(body) {
            Ok(read) if answer.status().is_success() => Ok((answer.status(), read)),
            _ => Err(refusal(&answer, act)),
        }
    }

    async fn send(
        &self,
        agent: &Agent,
        (method, path): (Method, &str),
        body: Bytes,
    ) -> Result<Response<Bytes>, ApiError> {
        let token = agent_token(self.secret.as_bytes(), agent.vmid, agent.instance_id);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", agent.address))
            .header(AUTHORIZATION, format!("Bearer {token}"));
        if !body.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let answer = self.client.call(request.body(body).map_err(ApiError::internal)?).await?;
        tracing::info!(vmid = %agent.vmid, status = answer.status().as_u16(), "an agent answered");
        Ok(answer)
    }
}

fn refusal(answer: &Response<Bytes>, act: &str) -> ApiError {
    ApiError::Agent {
        status: forwarded(answer.status()),
        message: format!("the agent could not {act}"),
        details: serde_json::from_slice(answer.body()).unwrap_or_default(),
    }
}

/// The status of a refusal as the customer sees it. That the agent does not accept our credential, sends us
/// elsewhere or breaks its contract is not the customer's doing.
fn forwarded(status: StatusCode) -> StatusCode {
    let refused = status.is_client_error() || status.is_server_error();
    if refused && !matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
        status
    } else {
        StatusCode::BAD_GATEWAY
    }
}
