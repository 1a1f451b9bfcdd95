//! Speaks to agents: bounded in time and size, never redirected, and only believed about the container
//! that was asked for.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper_util::client::legacy::Client;
use serde::de::DeserializeOwned;
use zlh_agent_protocol::agent::{
    Accepted, AgentConfig, AgentError, Power, Ready, Status, agent_token,
};
use zlh_agent_protocol::internal::Machine;
use zlh_ids::{InstanceId, Vmid};

use crate::body::{self, Body};
use crate::reach::{Connector, Place, Reach, Service};

/// An agent answers from memory; one that does not in this time is counted as gone.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
/// An agent says after 20 s that a server takes longer to end.
const HALT_TIMEOUT: Duration = Duration::from_secs(25);
const MAX_ANSWER_BYTES: usize = 256 << 10;
/// Two polls at the default interval reuse a connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

/// An agent and the life of the container it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentAddress {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance: InstanceId,
    /// `host:port`.
    pub address: String,
    /// Whose machine that is on.
    pub machine: Machine,
}

/// An agent did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgentFault {
    /// Nobody answers.
    #[error("the agent does not answer: {0}")]
    Unreachable(String),
    /// It refused.
    #[error("the agent answered {status}: {message}")]
    Refused {
        /// The answer's status.
        status: StatusCode,
        /// Its text.
        message: String,
    },
    /// The answer is not one of this container's agent.
    #[error("{0}")]
    Wrong(String),
}

impl AgentFault {
    /// Something else is going on in the container, which will end.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { status: StatusCode::CONFLICT, .. })
    }
}

/// What an agent can be asked.
#[async_trait]
pub trait AgentApi: Send + Sync + 'static {
    /// `GET /health`.
    async fn health(&self, agent: &AgentAddress) -> Result<(), AgentFault>;
    /// `GET /ready`, whatever it says.
    async fn ready(&self, agent: &AgentAddress) -> Result<Ready, AgentFault>;
    /// `GET /status`.
    async fn status(&self, agent: &AgentAddress) -> Result<Status, AgentFault>;
    /// `POST /config`.
    async fn configure(&self, agent: &AgentAddress, config: &AgentConfig)
    -> Result<(), AgentFault>;
    /// `POST /halt`; true once the game server has ended.
    async fn halt(&self, agent: &AgentAddress) -> Result<bool, AgentFault>;
}

/// Agents over HTTP.
pub struct AgentClient {
    client: Client<Connector, Body>,
    secret: String,
}

impl AgentClient {
    /// A client that goes the way `reach` knows and shows each agent the token made with `secret`.
    #[must_use]
    pub fn new(reach: &Arc<Reach>, secret: String) -> Arc<Self> {
        Arc::new(Self { client: reach.pool(IDLE_TIMEOUT, 1), secret })
    }

    async fn call(
        &self,
        agent: &AgentAddress,
        method: Method,
        path: &str,
        content: Bytes,
    ) -> Result<(StatusCode, Bytes), AgentFault> {
        self.call_within(CALL_TIMEOUT, agent, method, path, content).await
    }

    async fn call_within(
        &self,
        limit: Duration,
        agent: &AgentAddress,
        method: Method,
        path: &str,
        content: Bytes,
    ) -> Result<(StatusCode, Bytes), AgentFault> {
        let work = self.call_unbounded(agent, method, path, content);
        let answer = tokio::time::timeout(limit, work).await;
        answer.unwrap_or_else(|_| Err(AgentFault::Unreachable("no answer in time".to_owned())))
    }

    async fn call_unbounded(
        &self,
        agent: &AgentAddress,
        method: Method,
        path: &str,
        content: Bytes,
    ) -> Result<(StatusCode, Bytes), AgentFault> {
        let token = agent_token(self.secret.as_bytes(), agent.vmid, agent.instance);
        let place = Place {
            vmid: agent.vmid,
            instance: agent.instance,
            service: Service::Agent,
            address: agent.address.clone(),
            machine: agent.machine.clone(),
        };
        let uri = place.pool_uri(path);
        let uri =
            uri.ok_or_else(|| AgentFault::Wrong("the agent cannot be asked so".to_owned()))?;
        let mut request = Request::builder()
            .method(method)
            .uri(uri)
            .header(HOST, &agent.address)
            .header(AUTHORIZATION, format!("Bearer {token}"));
        if !content.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request
            .body(body::full(content))
            .map_err(|_| AgentFault::Wrong("the agent's address is malformed".to_owned()))?;
        let response = self.client.request(request).await.map_err(|error| {
            AgentFault::Unreachable(
                if error.is_connect() { "no connection" } else { "it broke off" }.to_owned(),
            )
        })?;
        let status = response.status();
        let answer = body::limited(body::received(response.into_body()), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|_| {
                AgentFault::Wrong("the agent's answer broke off or is too long".to_owned())
            })?;
        Ok((status, answer.to_bytes()))
    }

    async fn get(
        &self,
        agent: &AgentAddress,
        path: &str,
    ) -> Result<(StatusCode, Bytes), AgentFault> {
        self.call(agent, Method::GET, path, Bytes::new()).await
    }
}

#[async_trait]
impl AgentApi for AgentClient {
    async fn health(&self, agent: &AgentAddress) -> Result<(), AgentFault> {
        match self.get(agent, "/health").await? {
            (StatusCode::OK, _) => Ok(()),
            (status, answer) => Err(refused(status, &answer)),
        }
    }

    async fn ready(&self, agent: &AgentAddress) -> Result<Ready, AgentFault> {
        let (status, answer) = self.get(agent, "/ready").await?;
        if !matches!(status, StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) {
            return Err(refused(status, &answer));
        }
        let ready: Ready = read(&answer)?;
        meant_for(agent, ready.vmid)?;
        // The status and the body must say the same.
        if ready.ready != (status == StatusCode::OK) {
            return Err(AgentFault::Wrong(
                "the agent contradicts itself about its readiness".to_owned(),
            ));
        }
        Ok(ready)
    }

    async fn status(&self, agent: &AgentAddress) -> Result<Status, AgentFault> {
        let (status, answer) = self.get(agent, "/status").await?;
        if status != StatusCode::OK {
            return Err(refused(status, &answer));
        }
        let status: Status = read(&answer)?;
        meant_for(agent, status.vmid)?;
        Ok(status)
    }

    async fn configure(
        &self,
        agent: &AgentAddress,
        config: &AgentConfig,
    ) -> Result<(), AgentFault> {
        let content = serde_json::to_vec(config).map_err(|error| {
            AgentFault::Wrong(format!("the configuration cannot be sent: {error}"))
        })?;
        let (status, answer) = self.call(agent, Method::POST, "/config", content.into()).await?;
        if status != StatusCode::ACCEPTED {
            return Err(refused(status, &answer));
        }
        read::<Accepted>(&answer).map(drop)
    }

    async fn halt(&self, agent: &AgentAddress) -> Result<bool, AgentFault> {
        let path = Power::Halt.path();
        let call = self.call_within(HALT_TIMEOUT, agent, Method::POST, path, Bytes::new());
        match call.await? {
            (StatusCode::NO_CONTENT, _) => Ok(true),
            (StatusCode::ACCEPTED, _) => Ok(false),
            (status, answer) => Err(refused(status, &answer)),
        }
    }
}

fn read<T: DeserializeOwned>(answer: &[u8]) -> Result<T, AgentFault> {
    serde_json::from_slice(answer)
        .map_err(|error| AgentFault::Wrong(format!("the agent's answer cannot be read: {error}")))
}

fn refused(status: StatusCode, answer: &[u8]) -> AgentFault {
    let message = serde_json::from_slice::<AgentError>(answer)
        .map_or_else(|_| "no reason given".to_owned(), |error| error.error);
    AgentFault::Refused { status, message }
}

fn meant_for(agent: &AgentAddress, answered: Vmid) -> Result<(), AgentFault> {
    if agent.vmid == answered {
        return Ok(());
    }
    Err(AgentFault::Wrong(format!("the agent of container {answered} answered")))
}
