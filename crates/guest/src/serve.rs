//! From the host's request to a router and back.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::body::Body;
use spin_sdk::http::Request;
use tower::ServiceExt;
use zlh_api::{ApiError, Settings};

use crate::{VariableError, optional_variable};

/// The router of this instance, which serves many requests. Variables are read when it is built; the host
/// bounds how long an instance lives.
static ROUTER: OnceLock<Router> = OnceLock::new();

/// Completes the router that `build` makes, and runs the request through it.
pub async fn serve(
    request: Request,
    build: impl AsyncFnOnce() -> Result<Router, VariableError>,
) -> http::Response<Body> {
    let router = match ROUTER.get() {
        Some(router) => router.clone(),
        None => complete(build).await,
    };
    match router.oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

async fn complete(build: impl AsyncFnOnce() -> Result<Router, VariableError>) -> Router {
    zlh_telemetry::init();
    let origins = optional_variable("allowed_origins").await.ok().flatten().unwrap_or_default();
    let settings = Settings::from_allowed_origins(&origins);
    match build().await {
        Ok(router) => ROUTER.get_or_init(|| zlh_api::finish(router, settings)).clone(),
        // A component that is set up wrongly answers every request alike, and says why in the log.
        Err(error) => {
            let error = Arc::new(error);
            let refuse = move || async move { ApiError::internal(error) };
            zlh_api::finish(Router::new().fallback(refuse), settings)
        }
    }
}
