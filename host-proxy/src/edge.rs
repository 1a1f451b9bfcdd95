//! The public side: what is let in, in which shape, and where it goes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri};
use hyper::body::Incoming;
use tracing::{Instrument as _, field};
use uuid::Uuid;

use crate::answer::{self, Code};
use crate::api::ComponentApi;
use crate::body::{self, Body};
use crate::config::EdgeLimits;
use crate::ide_proxy::host::{HostKind, HostSuffix};
use crate::ide_proxy::{IdeProxy, Mount, bootstrap};
use crate::metrics::Metrics;
use crate::streams::files::{FileStream, FileStreams};
use crate::traces;

pub mod client;
pub mod headers;
pub mod listener;
pub mod target;
#[cfg(test)]
mod tests;

use client::TrustedProxies;
use target::Authority;

/// Set on every answer, and on every request that is passed on.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Where a request comes from.
#[derive(Debug, Clone)]
pub struct Origin {
    /// The other end of the connection, or of the one that a trusted proxy speaks for.
    pub client: SocketAddr,
    /// The `Host` header, checked.
    pub authority: Authority,
    /// Name of this request in every log.
    pub request_id: HeaderValue,
}

/// The public listener and the tunnel listener.
pub struct Edge {
    api: ComponentApi,
    ide: Arc<IdeProxy>,
    files: FileStreams,
    suffix: HostSuffix,
    limits: EdgeLimits,
    trusted_proxies: TrustedProxies,
    metrics: Arc<Metrics>,
}

/// Which listener a request came in on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// API, portal and hosted IDEs.
    Public,
    /// IDEs below `/__ide/`, and nothing else.
    Tunnel,
}

impl Edge {
    /// An edge in front of components, IDEs and streams.
    #[must_use]
    pub fn new(
        api: ComponentApi,
        ide: Arc<IdeProxy>,
        files: FileStreams,
        suffix: HostSuffix,
        limits: EdgeLimits,
        metrics: Arc<Metrics>,
    ) -> Self {
        let trusted_proxies = TrustedProxies::default();
        Self { api, ide, files, suffix, limits, trusted_proxies, metrics }
    }

    /// The same behind proxies.
    #[must_use]
    pub fn behind(self, trusted_proxies: TrustedProxies) -> Self {
        Self { trusted_proxies, ..self }
    }

    /// Answers one request.
    pub async fn handle(
        &self,
        door: Door,
        request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Response<Body> {
        let client = self.trusted_proxies.client(peer, request.headers());
        let started = Instant::now();
        let request_id = new_request_id();
        let method = request.method().clone();
        let path = request.uri().path().to_owned();

        let span = tracing::info_span!(
            target: traces::TARGET,
            "request",
            otel.kind = "server",
            otel.name = %method,
            http.request.method = %method,
            http.response.status_code = field::Empty,
            url.path = %path,
            request.id = request_id.to_str().unwrap_or_default(),
        );
        let request = request.map(body::received);
        let mut response = match admit(request) {
            Ok((request, authority)) => {
                let origin = Origin { client, authority, request_id: request_id.clone() };
                self.route(door, request, origin).instrument(span.clone()).await
            }
            Err(reason) => answer::error(Code::Invalid, reason),
        };
        response.headers_mut().insert(REQUEST_ID, request_id.clone());

        let status = response.status();
        span.record("http.response.status_code", status.as_u16());
        self.metrics.answered(status, started.elapsed());
        // The query is left out: it may hold a token.
        tracing::info!(
            request.id = request_id.to_str().unwrap_or_default(),
            method = %method,
            path = %path,
            status = status.as_u16(),
            duration_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "answered"
        );
        response
    }

    async fn route(&self, door: Door, request: Request<Body>, origin: Origin) -> Response<Body> {
        if door == Door::Tunnel {
            return match Mount::tunnel(request.uri()) {
                Some(mount) => self.ide.handle(mount, request, &origin).await,
                None => answer::not_found(),
            };
        }
        match self.suffix.classify(origin.authority.name()) {
            HostKind::Ide(vmid) => self.ide.handle(Mount::Hosted(vmid), request, &origin).await,
            HostKind::NoContainer => answer::not_found(),
            HostKind::Other => self.route_path(request, origin).await,
        }
    }

    async fn route_path(&self, request: Request<Body>, origin: Origin) -> Response<Body> {
        // A path that two parsers could read in two ways names nothing.
        if !target::is_unambiguous(request.uri().path()) || target::is_private(request.uri().path())
        {
            return answer::not_found();
        }
        if let Some(vmid) = bootstrap::container(request.uri().path()) {
            return self.ide.bootstrap(vmid, &request.map(drop), &origin).await;
        }
        if let Some(stream) = FileStream::of(request.method(), request.uri().path()) {
            return self.files.handle(stream, request).await;
        }
        self.call_components(request, origin).await
    }

    async fn call_components(&self, request: Request<Body>, origin: Origin) -> Response<Body> {
        let (mut parts, body) = request.into_parts();
        // To a component header values are text.
        if parts.headers.values().any(|value| str::from_utf8(value.as_bytes()).is_err()) {
            return answer::error(Code::Invalid, "a header is not UTF-8");
        }
        let limit = self.limits.max_body_bytes;
        if declared_length(&parts.headers).is_some_and(|length| length > limit) {
            return answer::error(Code::TooLarge, "the body is too large");
        }
        headers::clean_request(&mut parts.headers);
        headers::remove_ide_cookies(&mut parts.headers);
        headers::set_forwarded(&mut parts.headers, &origin, "http");
        let body = body::limited(body, usize::try_from(limit).unwrap_or(usize::MAX));

        match self.api.call(Request::from_parts(parts, body), origin.client).await {
            Ok(mut response) => {
                headers::remove_hop_by_hop(response.headers_mut());
                answer::in_place_of_empty(response)
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "components did not answer"
                );
                answer::error(Code::Unavailable, "the service is not available at the moment")
            }
        }
    }
}

/// Checks the request's target and host; the request goes on in origin form.
fn admit(mut request: Request<Body>) -> Result<(Request<Body>, Authority), &'static str> {
    let authority = target::authority(request.headers())?;
    if request.method() == http::Method::CONNECT {
        return Err("CONNECT is not served");
    }
    if let Some(named) = request.uri().authority() {
        // RFC 9112 section 3.2.2: an absolute form replaces Host; two names for one request are refused.
        if !named.as_str().eq_ignore_ascii_case(authority.as_str()) {
            return Err("the request is for another host");
        }
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() =
            path.parse::<Uri>().map_err(|_| "the request's target is malformed")?;
    }
    let host =
        HeaderValue::from_str(authority.as_str()).map_err(|_| "the Host header is malformed")?;
    request.headers_mut().insert(HOST, host);
    Ok((request, authority))
}

pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(crate) fn new_request_id() -> HeaderValue {
    let mut buffer = Uuid::encode_buffer();
    let text = Uuid::new_v4().hyphenated().encode_lower(&mut buffer);
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("none"))
}
