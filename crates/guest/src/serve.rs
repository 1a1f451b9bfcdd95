//! From the host's request to a router and back.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use spin_sdk::http::Request;
use tower::ServiceExt;
use zlh_api::{ApiError, Settings};

use crate::{VariableError, optional_variable};

/// Completes the router that `build` makes, and runs the request through it.
pub async fn serve(
    request: Request,
    build: impl AsyncFnOnce() -> Result<Router, VariableError>,
) -> http::Response<Body> {
    zlh_telemetry::init();
    let settings = optional_variable("allowed_origins").await.ok().flatten().unwrap_or_default();
    let settings = Settings::from_allowed_origins(&settings);
    let router = build().await.unwrap_or_else(|error| {
        // A component that is set up wrongly answers every request alike, and says why in the log.
        let error = Arc::new(error);
        Router::new().fallback(move || async move { ApiError::internal(error) })
    });
    match zlh_api::finish(router, settings).oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}
