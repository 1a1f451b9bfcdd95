//! Runs requests on instances of one component.
//!
//! [`wasmtime_wasi_http`]'s `ProxyHandler` reuses instances. Around it stand what it lacks: a bounded
//! queue, deadlines, limits on bodies, and the memory of which instance serves which request, so that a
//! response whose instance dies is cut off instead of ending as if it were complete.

mod body;
mod worker;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::task_tracker::TaskTrackerToken;
use wasmtime_wasi_http::handler::{ExpirationError, InstantiationError, ProxyHandler};

use self::worker::Fate;
pub(crate) use self::worker::Instances;
use super::limits::Limits;
use super::metrics::Counters;
use crate::body::{Body, full};

/// One component, ready to serve.
pub(crate) struct Dispatcher {
    component: Arc<str>,
    handler: ProxyHandler<Instances>,
    limits: Arc<Limits>,
    counters: Counters,
    running: Arc<Semaphore>,
    queue: Semaphore,
}

/// What is known about one request while it is served.
pub(crate) struct Exchange {
    deadline: Instant,
    /// The instance that took it.
    fate: OnceLock<Arc<Fate>>,
    _running: OwnedSemaphorePermit,
    _tracked: TaskTrackerToken,
}

impl Exchange {
    /// Whether the instance that took the request is dead.
    fn failed(&self) -> bool {
        self.fate.get().is_some_and(|fate| fate.failed())
    }
}

/// Why a request has no response of its component's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    TooLarge,
    Headers,
    Internal,
    Busy,
    Timeout,
}

impl Refusal {
    /// As the answer says it.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Headers => "headers_too_large",
            Self::Internal => "internal",
            Self::Busy => "unavailable",
            Self::Timeout => "timeout",
        }
    }

    pub(crate) fn response(self) -> Response<Body> {
        let code = self.code();
        let (status, error) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "the request body is too large"),
            Self::Headers => (
                StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
                "the request has too many or too large headers",
            ),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "something went wrong"),
            Self::Busy => (StatusCode::SERVICE_UNAVAILABLE, "too busy, try again"),
            Self::Timeout => (StatusCode::GATEWAY_TIMEOUT, "this took too long"),
        };
        let mut response = Response::new(full(format!(r#"{{"error":"{error}","code":"{code}"}}"#)));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if self == Self::Busy {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl Dispatcher {
    pub(crate) fn new(component: Arc<str>, instances: Instances, limits: Arc<Limits>) -> Self {
        Self {
            component,
            counters: instances.counters.clone(),
            handler: ProxyHandler::new(instances),
            running: Arc::new(Semaphore::new(limits.max_concurrent_requests)),
            queue: Semaphore::new(limits.max_queued_requests),
            limits,
        }
    }

    /// Whose requests these are.
    pub(crate) fn component(&self) -> &str {
        &self.component
    }

    /// Answers one request. When the future is dropped the guest still runs on, until its response is
    /// ready.
    pub(crate) async fn answer(
        &self,
        request: Request<Body>,
        tracked: TaskTrackerToken,
    ) -> Response<Body> {
        let started = Instant::now();
        let deadline = started + self.limits.request_timeout;
        let response = self.run(request, deadline, tracked).await.unwrap_or_else(|refusal| {
            self.counters.refused(refusal.code());
            refusal.response()
        });
        self.counters.answered(response.status(), started.elapsed());
        response
    }

    async fn run(
        &self,
        request: Request<Body>,
        deadline: Instant,
        tracked: TaskTrackerToken,
    ) -> Result<Response<Body>, Refusal> {
        if announced_length(&request).is_some_and(|n| n > self.limits.max_request_body_bytes) {
            return Err(Refusal::TooLarge);
        }
        if !self.fit(request.headers()) {
            return Err(Refusal::Headers);
        }
        let exchange = Arc::new(Exchange {
            deadline,
            fate: OnceLock::new(),
            _running: self.admit(deadline).await?,
            _tracked: tracked,
        });

        let limit = self.limits.max_request_body_bytes;
        // Not a part of the exchange: a guest may keep a request's body for as long as it lives.
        let too_large = Arc::<AtomicBool>::default();
        let request = request
            .map(|body| body::limit_request(body, limit, Arc::clone(&too_large)).boxed_unsync());
        let handled =
            timeout_at(deadline, self.handler.handle(Arc::clone(&exchange), request)).await;

        if too_large.load(Ordering::Relaxed) {
            return Err(Refusal::TooLarge);
        }
        match handled {
            Ok(Ok(response)) => self.respond(response, exchange),
            Ok(Err(error)) => Err(self.explain(&error, &exchange)),
            Err(_) => Err(self.timed_out()),
        }
    }

    /// Waits for a place among the running requests.
    async fn admit(&self, deadline: Instant) -> Result<OwnedSemaphorePermit, Refusal> {
        if let Ok(permit) = Arc::clone(&self.running).try_acquire_owned() {
            return Ok(permit);
        }
        let _queued = self.queue.try_acquire().map_err(|_| Refusal::Busy)?;
        match timeout_at(deadline, Arc::clone(&self.running).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(Refusal::Busy),
        }
    }

    fn respond(
        &self,
        response: Response<wasmtime_wasi_http::WasiBody>,
        exchange: Arc<Exchange>,
    ) -> Result<Response<Body>, Refusal> {
        if !self.fit(response.headers()) {
            tracing::error!(component.id = %self.component, "a response has too many or too large headers");
            return Err(Refusal::Internal);
        }
        let limit = self.limits.max_response_body_bytes;
        let mut response =
            response.map(|body| body::limit_response(body, limit, exchange).boxed_unsync());
        // Guests see `host` in requests, and so may write it; in a response it means nothing.
        response.headers_mut().remove(HOST);
        Ok(response)
    }

    fn fit(&self, headers: &HeaderMap) -> bool {
        let bytes: usize =
            headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        headers.len() <= self.limits.max_headers && bytes <= self.limits.max_header_bytes
    }

    fn explain(&self, error: &wasmtime::Error, exchange: &Exchange) -> Refusal {
        if let Some(error) = error.downcast_ref::<InstantiationError<Arc<Exchange>>>() {
            tracing::error!(component.id = %self.component, error = %error, "no instance");
            return Refusal::Busy;
        }
        if error.is::<ExpirationError>() {
            return self.timed_out();
        }
        match exchange.fate.get() {
            Some(fate) if fate.processor.exceeded() => Refusal::Timeout,
            // The worker says why, once for all requests that die with it.
            Some(fate) if fate.failed() => Refusal::Internal,
            _ => {
                tracing::error!(component.id = %self.component, error = %error, "request failed");
                Refusal::Internal
            }
        }
    }

    fn timed_out(&self) -> Refusal {
        tracing::warn!(component.id = %self.component, "no response within the request timeout");
        Refusal::Timeout
    }
}

fn announced_length(request: &Request<Body>) -> Option<u64> {
    request.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
