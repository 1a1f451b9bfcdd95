//! A component's call, passed on to the agent with the agent's own token.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::LengthLimitError;
use hyper_util::client::legacy::Client;
use zlh_agent_protocol::agent::agent_token;
use zlh_agent_protocol::internal::AgentRoute;

use super::Refusal;
use crate::answer::Code;
use crate::body::{self, Body};
use crate::edge::{REQUEST_ID, declared_length};
use crate::reach::{Connector, Place, Reach, Service};

/// Less than a component waits, so that it learns why.
const HEAD_TIMEOUT: Duration = Duration::from_secs(23);
/// More than any component reads.
const MAX_ANSWER_BYTES: usize = 8 << 20;
/// A page of a portal is a few calls one after the other.
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
const MAX_IDLE_CONNECTIONS: usize = 4;

/// Connections to agents, and what they ask for.
pub struct AgentPool {
    client: Client<Connector, Body>,
    reach: Arc<Reach>,
    secret: String,
    max_body_bytes: u64,
}

impl AgentPool {
    /// Agents whose tokens are made with the secret, and which are sent no more than so many bytes at once.
    #[must_use]
    pub fn new(reach: &Arc<Reach>, secret: String, max_body_bytes: u64) -> Self {
        let client = reach.pool(IDLE_TIMEOUT, MAX_IDLE_CONNECTIONS);
        Self { client, reach: Arc::clone(reach), secret, max_body_bytes }
    }

    pub(super) async fn call(
        &self,
        route: &AgentRoute,
        request: Request<Body>,
        path: &str,
        request_id: &HeaderValue,
    ) -> Result<Response<Body>, Refusal> {
        let away = self.reach.gateway(&route.machine).is_some();
        let request = self.prepare(route, request, path, request_id)?;
        let answer = tokio::time::timeout(HEAD_TIMEOUT, self.client.request(request)).await;
        let answer = answer.map_err(|_| (Code::Timeout, "the agent did not answer in time"))?;
        let answer = answer.map_err(|error| {
            let refusal = unreachable(&error, away);
            tracing::warn!(vmid = %route.vmid, error = &error as &dyn Error, "{}", refusal.1);
            refusal
        })?;
        received(answer)
    }

    fn prepare(
        &self,
        route: &AgentRoute,
        request: Request<Body>,
        path: &str,
        request_id: &HeaderValue,
    ) -> Result<Request<Body>, Refusal> {
        let (parts, content) = request.into_parts();
        let declared = declared_length(&parts.headers);
        if declared.is_some_and(|length| length > self.max_body_bytes) {
            return Err(TOO_LARGE);
        }
        let place = Place {
            vmid: route.vmid,
            instance: route.instance_id,
            service: Service::Agent,
            address: route.agent_address.clone(),
            machine: route.machine.clone(),
        };
        let target = match parts.uri.query() {
            Some(query) => format!("{path}?{query}"),
            None => path.to_owned(),
        };
        let token = agent_token(self.secret.as_bytes(), route.vmid, route.instance_id);
        let limit = usize::try_from(self.max_body_bytes).unwrap_or(usize::MAX);
        let mut sent = Request::builder()
            .method(parts.method)
            .uri(place.pool_uri(&target).ok_or(BROKEN)?)
            .header(HOST, &place.address)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .header(REQUEST_ID, request_id)
            .body(body::limited(content, limit))
            .map_err(|_| BROKEN)?;
        keep(&parts.headers, sent.headers_mut(), &[CONTENT_TYPE, CONTENT_LENGTH]);
        Ok(sent)
    }
}

const TOO_LARGE: Refusal = (Code::TooLarge, "the body is too large");
const BROKEN: Refusal = (Code::Internal, "internal error");

fn received(answer: Response<hyper::body::Incoming>) -> Result<Response<Body>, Refusal> {
    let (parts, content) = answer.into_parts();
    if declared_length(&parts.headers).is_some_and(|length| length > MAX_ANSWER_BYTES as u64) {
        return Err((Code::Unavailable, "the agent's answer is too long"));
    }
    let mut passed = Response::new(body::limited(body::received(content), MAX_ANSWER_BYTES));
    *passed.status_mut() = parts.status;
    keep(&parts.headers, passed.headers_mut(), &[CONTENT_TYPE, CONTENT_LENGTH, RETRY_AFTER]);
    Ok(passed)
}

fn keep(from: &HeaderMap, to: &mut HeaderMap, names: &[http::HeaderName]) {
    for name in names {
        if let Some(value) = from.get(name) {
            to.insert(name, value.clone());
        }
    }
}

fn unreachable(error: &hyper_util::client::legacy::Error, away: bool) -> Refusal {
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        if error.is::<LengthLimitError>() {
            return TOO_LARGE;
        }
        cause = error.source();
    }
    match away {
        true => (Code::Unavailable, "the container's machine does not answer"),
        false => (Code::Unavailable, "the agent does not answer"),
    }
}
