//! The private listener: is it alive, is it ready, what does it count, which components does it run.

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use zlh_agent_protocol::internal::Agents;

use crate::answer::{self, Code};
use crate::api::InternalApi;
use crate::body::Body;
use crate::metrics::{self, Metrics};
use crate::streams::registry::Registry;

pub mod components;

use components::ComponentAdmin;

/// Whoever asks for readiness asks again soon.
const READY_TIMEOUT: Duration = Duration::from_secs(3);

/// The private listener.
#[derive(Clone)]
pub struct Admin {
    /// Is ready when this answers.
    pub api: Arc<InternalApi>,
    /// Counts.
    pub metrics: Arc<Metrics>,
    /// Counted.
    pub streams: Arc<Registry>,
    /// Cancelled when this process is about to end.
    pub leaving: CancellationToken,
    /// Components that run in this process.
    pub components: Option<ComponentAdmin>,
}

impl Admin {
    /// Answers one request.
    pub async fn handle(&self, request: Request<Incoming>) -> Response<Body> {
        let path = request.uri().path().to_owned();
        if let Some(path) = path.strip_prefix("/components").filter(|rest| is_below(rest)) {
            return match &self.components {
                Some(components) => components.handle(path, request).await,
                None => answer::error(Code::NotFound, "the components run in another process"),
            };
        }
        if request.method() != http::Method::GET {
            return answer::not_found();
        }
        match path.as_str() {
            "/livez" => answer::text(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" => self.ready().await,
            "/metrics" => self.metrics(),
            _ => answer::not_found(),
        }
    }

    fn metrics(&self) -> Response<Body> {
        match self.metrics.render(self.streams.count()) {
            Ok(text) => {
                let mut response = answer::text(StatusCode::OK, text);
                response.headers_mut().insert(CONTENT_TYPE, metrics::CONTENT_TYPE);
                response
            }
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                answer::error(Code::Internal, "the metrics cannot be written")
            }
        }
    }

    /// Ready means that components and their database answer, and that this process stays.
    async fn ready(&self) -> Response<Body> {
        if self.leaving.is_cancelled() {
            return answer::text(StatusCode::SERVICE_UNAVAILABLE, "ending\n".to_owned());
        }
        let asked = self.api.get::<Agents>("/internal/agents");
        match tokio::time::timeout(READY_TIMEOUT, asked).await {
            Ok(Ok(_)) => answer::text(StatusCode::OK, "ok\n".to_owned()),
            _ => answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "components do not answer\n".to_owned(),
            ),
        }
    }
}

fn is_below(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('/')
}
