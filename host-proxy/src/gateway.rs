//! The private listener of components and host-proxies that cannot reach the agents' network themselves.
//!
//! `/agents/<vmid>/<agent path>` is one of the calls that components make to agents, answered by the agent;
//! `/tunnels/<vmid>/{agent,ide}` becomes a connection to a container of this machine, for another host-proxy.
//! Each wants an `internal` token for that life of the container: of a key that only opens agents here, or of
//! host-proxies. What came through a gateway goes through no other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::sync::Semaphore;
use zlh_agent_protocol::calls;
use zlh_agent_protocol::internal::AgentRoute;
use zlh_authn::token::{Claims, PublicKeys, TokenKind};
use zlh_ids::Vmid;

use crate::answer::{self, Code};
use crate::api::{CallError, InternalApi};
use crate::body::Body;
use crate::clock;
use crate::edge::{REQUEST_ID, new_request_id};
use crate::reach::{Reach, Service};
use crate::streams::registry::Registry;

mod agents;
mod tunnels;

pub use agents::AgentPool;

/// Knows where containers are: the component `platform`.
#[async_trait]
pub trait Inventory: Send + Sync + 'static {
    /// Where one container's listeners are.
    async fn find(&self, vmid: Vmid) -> Result<AgentRoute, CallError>;
}

#[async_trait]
impl Inventory for InternalApi {
    async fn find(&self, vmid: Vmid) -> Result<AgentRoute, CallError> {
        self.get(&format!("/internal/agents/{vmid}")).await
    }
}

/// Whose tokens are accepted.
pub struct GatewayKeys {
    /// Of components.
    pub components: PublicKeys,
    /// Of host-proxies.
    pub hosts: PublicKeys,
}

/// The gateway of this machine.
pub struct Gateway {
    /// Whose tokens are accepted.
    pub keys: GatewayKeys,
    /// Knows where containers are.
    pub inventory: Arc<dyn Inventory>,
    /// The way to them.
    pub reach: Arc<Reach>,
    /// Agents.
    pub agents: AgentPool,
    /// Runs tunnels, and ends them.
    pub streams: Arc<Registry>,
    /// Room for tunnels.
    pub room: Arc<Semaphore>,
}

/// What is asked for.
enum Wanted<'a> {
    /// A call to the agent.
    Call { vmid: Vmid, path: &'a str },
    /// A connection.
    Tunnel { vmid: Vmid, service: Service },
}

impl<'a> Wanted<'a> {
    fn of(path: &'a str) -> Option<Self> {
        if let Some(rest) = path.strip_prefix("/agents/") {
            let (vmid, _) = rest.split_once('/')?;
            let path = rest.get(vmid.len()..)?;
            return Some(Self::Call { vmid: vmid.parse().ok()?, path });
        }
        let (vmid, service) = path.strip_prefix("/tunnels/")?.split_once('/')?;
        let services = [Service::Agent, Service::Ide];
        let service = services.into_iter().find(|known| known.as_str() == service)?;
        Some(Self::Tunnel { vmid: vmid.parse().ok()?, service })
    }
}

/// Why something is refused, in words for whoever asked.
type Refusal = (Code, &'static str);

const UNAUTHENTICATED: Refusal = (Code::Unauthenticated, "not authenticated");
const NOT_FOUND: Refusal = (Code::NotFound, "not found");
const NO_CONTAINER: Refusal = (Code::NotFound, "there is no such container");

impl Gateway {
    /// Answers one request.
    pub async fn handle(&self, request: Request<Body>, client: SocketAddr) -> Response<Body> {
        let started = Instant::now();
        let request_id = request_id(request.headers());
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let answered = self.try_handle(request, &request_id).await;
        let mut response = answered.unwrap_or_else(|(code, text)| answer::error(code, text));
        response.headers_mut().insert(REQUEST_ID, request_id.clone());
        tracing::info!(
            request.id = request_id.to_str().unwrap_or_default(),
            %client,
            %method,
            path,
            status = response.status().as_u16(),
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "the gateway answered"
        );
        response
    }

    async fn try_handle(
        &self,
        request: Request<Body>,
        request_id: &HeaderValue,
    ) -> Result<Response<Body>, Refusal> {
        let path = request.uri().path().to_owned();
        match Wanted::of(&path).ok_or(NOT_FOUND)? {
            Wanted::Call { vmid, path } => {
                let GatewayKeys { components, hosts } = &self.keys;
                let claims = claims(&request, &[components, hosts], vmid)?;
                if !calls::is_listed(request.method().as_str(), path) {
                    return Err((Code::NotFound, "agents are not asked for this"));
                }
                let route = self.find(vmid, &claims).await?;
                self.agents.call(&route, request, path, request_id).await
            }
            Wanted::Tunnel { vmid, service } => {
                let claims = claims(&request, &[&self.keys.hosts], vmid)?;
                let route = self.find(vmid, &claims).await?;
                self.tunnel(&route, service, request).await
            }
        }
    }

    /// Where the container is, if it still has the life that the token is for.
    async fn find(&self, vmid: Vmid, claims: &Claims) -> Result<AgentRoute, Refusal> {
        match self.inventory.find(vmid).await {
            Ok(route) if route.vmid == vmid && claims.instance == Some(route.instance_id) => {
                Ok(route)
            }
            Ok(_) => Err(NO_CONTAINER),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => Err(NO_CONTAINER),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "nobody says where containers are"
                );
                Err((Code::Unavailable, "the components do not answer"))
            }
        }
    }
}

/// What a token says that one of the keys accepts and that is for this container.
fn claims(request: &Request<Body>, keys: &[&PublicKeys], vmid: Vmid) -> Result<Claims, Refusal> {
    let token = bearer(request.headers()).ok_or(UNAUTHENTICATED)?;
    let now = clock::unix_seconds();
    let verified = keys.iter().find_map(|keys| keys.verify(token, TokenKind::Internal, now).ok());
    verified.filter(|claims| claims.vmid == Some(vmid)).ok_or(UNAUTHENTICATED)
}

/// The token of the one `Authorization: Bearer` (RFC 6750 section 2.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// The id that the request has had before it came here, if it is one; else a new one.
fn request_id(headers: &HeaderMap) -> HeaderValue {
    let sane = |id: &&HeaderValue| {
        (1..=64).contains(&id.len())
            && id.as_bytes().iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
    };
    headers.get(REQUEST_ID).filter(sane).cloned().unwrap_or_else(new_request_id)
}

#[cfg(test)]
mod tests;
