//! Uploads to containers' files and downloads of them: bytes between a client and the container's agent, as fast as
//! the slower of the two, none of them kept here.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::header::{
    ACCEPT_RANGES, AUTHORIZATION, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH,
    CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST, IF_RANGE, RANGE, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Frame, SizeHint};
use hyper_util::client::legacy::Client;
use tokio_util::sync::WaitForCancellationFutureOwned;
use zlh_agent_protocol::agent::agent_token;
use zlh_agent_protocol::internal::{CheckStream, StreamAccess, StreamKind};
use zlh_ids::{ContainerType, Vmid};

use super::registry::{Registry, StreamGuard};
use crate::answer::{self, Code};
use crate::api::{CallError, InternalApi};
use crate::body::{self, Body, BoxError};
use crate::reach::{Connector, Place, Reach, Service};

/// An agent answers a request without a body once the disk did. One with a body ends by its own rules: the agent
/// breaks off a silent one, and the registry one whose time is over.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
const IDLE_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections that are kept for each agent.
const MAX_IDLE: usize = 2;
/// What an agent is told of a client's request.
const REQUEST_HEADERS: [HeaderName; 4] = [CONTENT_LENGTH, CONTENT_TYPE, RANGE, IF_RANGE];
/// What a client is told of an agent's answer.
const RESPONSE_HEADERS: [HeaderName; 6] =
    [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_RANGE, CONTENT_DISPOSITION, ACCEPT_RANGES, ETAG];

/// Who decides about streams: the component `tokens`.
#[async_trait]
pub trait StreamAuthority: Send + Sync + 'static {
    /// Whether a token opens a stream now.
    async fn check_stream(&self, call: &CheckStream) -> Result<StreamAccess, CallError>;
}

#[async_trait]
impl StreamAuthority for InternalApi {
    async fn check_stream(&self, call: &CheckStream) -> Result<StreamAccess, CallError> {
        self.post("/internal/streams/check", call).await
    }
}

/// What a path asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStream {
    vmid: Vmid,
    ctype: ContainerType,
    upload: bool,
}

impl FileStream {
    /// The stream that a request names, if it names one.
    #[must_use]
    pub fn of(method: &Method, path: &str) -> Option<Self> {
        // The answer to a browser's question about other origins is the component's.
        if method == Method::OPTIONS {
            return None;
        }
        let (ctype, rest) = match path.strip_prefix("/api/dev/") {
            Some(rest) => (ContainerType::Dev, rest),
            None => (ContainerType::Game, path.strip_prefix("/api/game/servers/")?),
        };
        let (vmid, stream) = rest.split_once("/files/")?;
        let upload = match stream {
            "upload" => true,
            "download" => false,
            _ => return None,
        };
        Some(Self { vmid: vmid.parse().ok()?, ctype, upload })
    }

    fn agent_path(self) -> &'static str {
        match (self.ctype, self.upload) {
            (ContainerType::Dev, true) => "/dev/files/upload",
            (ContainerType::Dev, false) => "/dev/files/download",
            (ContainerType::Game, true) => "/game/files/upload",
            (ContainerType::Game, false) => "/game/files/download",
        }
    }
}

/// Carries file streams.
pub struct FileStreams {
    authority: Arc<dyn StreamAuthority>,
    client: Client<Connector, Body>,
    secret: String,
    streams: Arc<Registry>,
}

impl FileStreams {
    /// Streams that `authority` allows, on the way that `reach` knows, noted in `streams`; each agent is shown the
    /// token made with `secret`.
    #[must_use]
    pub fn new(
        authority: Arc<dyn StreamAuthority>,
        reach: &Arc<Reach>,
        secret: String,
        streams: Arc<Registry>,
    ) -> Self {
        Self { authority, client: reach.pool(IDLE_TIMEOUT, MAX_IDLE), secret, streams }
    }

    /// Answers one request.
    pub async fn handle(&self, stream: FileStream, request: Request<Body>) -> Response<Body> {
        match self.try_handle(stream, request).await {
            Ok(response) => response,
            Err((code, text)) => answer::error(code, text),
        }
    }

    async fn try_handle(
        &self,
        stream: FileStream,
        request: Request<Body>,
    ) -> Result<Response<Body>, (Code, &'static str)> {
        let put = match *request.method() {
            Method::GET => false,
            Method::PUT if stream.upload => true,
            _ => return Err((Code::MethodNotAllowed, "this method is not served")),
        };
        let access = self.access(stream, request.headers()).await?;
        let guard = self.streams.open(access.grant, access.expires_at_ms);
        let guard = guard.ok_or((Code::RateLimited, "the container has too many open streams"))?;
        let guard = Arc::new(guard);

        let request = self.prepare(stream, &access, request, &guard)?;
        let answered = async {
            let answered = self.client.request(request);
            if put {
                return answered.await.ok();
            }
            tokio::time::timeout(HEAD_TIMEOUT, answered).await.ok()?.ok()
        };
        let answered = tokio::select! {
            _ = guard.closed() => return Err((Code::Unauthenticated, "not authenticated")),
            answered = answered => answered,
        };
        let answered =
            answered.ok_or((Code::Unavailable, "the container does not answer at the moment"))?;
        respond(answered, guard)
    }

    async fn access(
        &self,
        stream: FileStream,
        headers: &HeaderMap,
    ) -> Result<StreamAccess, (Code, &'static str)> {
        let unauthenticated = (Code::Unauthenticated, "not authenticated");
        let token = bearer(headers).ok_or(unauthenticated)?.to_owned();
        let call = CheckStream { vmid: stream.vmid, kind: StreamKind::Upload, token };
        let access =
            self.authority.check_stream(&call).await.map_err(|error| match error.status() {
                Some(StatusCode::NOT_FOUND) => (Code::NotFound, "not found"),
                Some(StatusCode::UNAUTHORIZED | StatusCode::BAD_REQUEST) => unauthenticated,
                Some(StatusCode::CONFLICT) => {
                    (Code::Conflict, "the container is still being created")
                }
                _ => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "nobody decides about streams");
                    (Code::Unavailable, "the service is not available at the moment")
                }
            })?;
        if (access.grant.vmid, access.ctype) == (stream.vmid, stream.ctype) {
            Ok(access)
        } else {
            Err((Code::NotFound, "not found"))
        }
    }

    /// The request as the agent gets it: nothing of the client's but what is listed.
    fn prepare(
        &self,
        stream: FileStream,
        access: &StreamAccess,
        request: Request<Body>,
        guard: &Arc<StreamGuard>,
    ) -> Result<Request<Body>, (Code, &'static str)> {
        let (parts, body) = request.into_parts();
        let token =
            agent_token(self.secret.as_bytes(), access.grant.vmid, access.grant.instance_id);
        let query = parts.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        let place = Place {
            vmid: access.grant.vmid,
            instance: access.grant.instance_id,
            service: Service::Agent,
            address: access.agent_address.clone(),
            machine: access.machine.clone(),
        };
        let uri = place.pool_uri(&format!("{}{query}", stream.agent_path()));
        let unreachable = (Code::Unavailable, "the container does not answer at the moment");
        let mut prepared = Request::builder()
            .method(parts.method)
            .uri(uri.ok_or(unreachable)?)
            .header(HOST, &access.agent_address)
            .header(AUTHORIZATION, format!("Bearer {token}"))
            .body(Guarded::over(body, guard))
            .map_err(|_| unreachable)?;
        copy(&REQUEST_HEADERS, &parts.headers, prepared.headers_mut());
        Ok(prepared)
    }
}

fn respond(
    answered: Response<hyper::body::Incoming>,
    guard: Arc<StreamGuard>,
) -> Result<Response<Body>, (Code, &'static str)> {
    let status = answered.status();
    // That the agent does not accept us, or sends us elsewhere, is not the client's doing.
    let ours = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    if ours || status.is_redirection() || status.is_informational() {
        tracing::warn!(http.status = status.as_u16(), "an agent refused a stream");
        return Err((Code::Unavailable, "the container does not answer at the moment"));
    }
    let (parts, body) = answered.into_parts();
    let mut response = Response::new(Guarded::over(body::received(body), &guard));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    copy(&RESPONSE_HEADERS, &parts.headers, headers);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Ok(response)
}

fn copy(names: &[HeaderName], from: &HeaderMap, to: &mut HeaderMap) {
    for name in names {
        if let Some(value) = from.get(name) {
            to.insert(name, value.clone());
        }
    }
}

/// RFC 6750 section 2.1. A token in a URL would be in logs and histories.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token)
}

/// A body that breaks off when the right to it ends; the stream is open as long as it is there.
struct Guarded {
    body: Body,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    _guard: Arc<StreamGuard>,
}

impl Guarded {
    fn over(body: Body, guard: &Arc<StreamGuard>) -> Body {
        let guarded =
            Self { body, closed: Box::pin(guard.closed_owned()), _guard: Arc::clone(guard) };
        Body::new(guarded)
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.closed.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err("the right to the stream ended".into())));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
