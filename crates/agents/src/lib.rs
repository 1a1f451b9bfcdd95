//! How components ask agents on behalf of a customer: with a credential for that container, without following
//! redirects, and with refusals that say whose they are. Directly, or through a gateway where agents are out of
//! reach.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use serde::de::DeserializeOwned;
use utoipa::IntoResponses;
use zlh_agent_protocol::agent::agent_token;
use zlh_agent_protocol::calls;
use zlh_api::{ApiError, ErrorBody};
use zlh_ids::{InstanceId, Vmid};

#[cfg(target_family = "wasm")]
mod guest;

/// Carries requests to agents; follows no redirect.
#[async_trait]
pub trait AgentClient: Send + Sync + 'static {
    /// An answer of any status, or [`ApiError::Unavailable`].
    async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ApiError>;
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

/// Makes what a gateway asks for.
#[async_trait]
pub trait GatewayTokens: Send + Sync + 'static {
    /// A token that opens this agent for a moment.
    async fn token(&self, agent: &Agent) -> Result<String, ApiError>;
}

/// The way to agents.
#[derive(Clone)]
enum Way {
    /// To their own addresses, with tokens made from the secret.
    Direct { secret: String },
    /// Below the URL, which has no final slash.
    Gateway { url: String, tokens: Arc<dyn GatewayTokens> },
}

/// Every container's agent.
#[derive(Clone)]
pub struct Agents {
    client: Arc<dyn AgentClient>,
    way: Way,
}

impl Agents {
    /// Agents that are called directly, with tokens that are made with the secret.
    #[must_use]
    pub fn new(client: Arc<dyn AgentClient>, secret: String) -> Self {
        Self { client, way: Way::Direct { secret } }
    }

    /// Agents behind the gateway at a URL.
    #[must_use]
    pub fn behind(
        client: Arc<dyn AgentClient>,
        gateway_url: &str,
        tokens: Arc<dyn GatewayTokens>,
    ) -> Self {
        let url = gateway_url.trim_end_matches('/').to_owned();
        Self { client, way: Way::Gateway { url, tokens } }
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
        if !calls::is_listed(method.as_str(), path.split('?').next().unwrap_or_default()) {
            return Err(ApiError::internal(format!("{method} {path} is no call to an agent")));
        }
        let (base, token) = match &self.way {
            Way::Direct { secret } => (
                format!("http://{}", agent.address),
                agent_token(secret.as_bytes(), agent.vmid, agent.instance_id),
            ),
            Way::Gateway { url, tokens } => {
                (format!("{url}/agents/{}", agent.vmid), tokens.token(agent).await?)
            }
        };
        let mut request = Request::builder()
            .method(method)
            .uri(base + path)
            .header(AUTHORIZATION, format!("Bearer {token}"));
        if let Some(request_id) = zlh_api::request_id() {
            request = request.header(zlh_api::X_REQUEST_ID, request_id);
        }
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Keeps what it is asked, and answers nothing of use.
    #[derive(Default)]
    struct Kept(Mutex<Vec<Request<Bytes>>>);

    #[async_trait]
    impl AgentClient for Kept {
        async fn call(&self, request: Request<Bytes>) -> Result<Response<Bytes>, ApiError> {
            self.0.lock().unwrap().push(request);
            Ok(Response::new(Bytes::from_static(b"{}")))
        }
    }

    struct Named;

    #[async_trait]
    impl GatewayTokens for Named {
        async fn token(&self, agent: &Agent) -> Result<String, ApiError> {
            Ok(format!("for-{}", agent.vmid))
        }
    }

    async fn ask(path: &str) -> (Result<StatusCode, ApiError>, Vec<Request<Bytes>>) {
        let kept = Arc::new(Kept::default());
        let client: Arc<dyn AgentClient> = kept.clone();
        let agents = Agents::behind(client, "https://gateway.example/", Arc::new(Named));
        let agent = Agent {
            vmid: Vmid::new(6001).unwrap(),
            instance_id: InstanceId::random(),
            address: "127.0.0.1:1".to_owned(),
        };
        let told = agents.ask(&agent, (Method::POST, path), Bytes::new(), "do it").await;
        let told = told.map(|(status, _): (_, serde_json::Value)| status);
        let asked = std::mem::take(&mut *kept.0.lock().unwrap());
        (told, asked)
    }

    #[tokio::test]
    async fn behind_a_gateway_an_agent_is_named_by_its_container() {
        let (told, asked) = ask("/dev/codeserver/start?now=1").await;

        assert_eq!(told.unwrap(), StatusCode::OK);
        let url = "https://gateway.example/agents/6001/dev/codeserver/start?now=1";
        assert_eq!(asked[0].uri(), url);
        assert_eq!(asked[0].headers()[AUTHORIZATION], "Bearer for-6001");
    }

    #[tokio::test]
    async fn what_is_no_call_to_an_agent_is_not_sent() {
        let (told, asked) = ask("/config").await;

        assert!(matches!(told, Err(ApiError::Internal { .. })));
        assert!(asked.is_empty());
    }
}
