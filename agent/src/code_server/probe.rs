//! Whether code-server serves the IDE, and not only its health check.

use std::time::Duration;

use http::StatusCode;

use crate::http_get::{Endpoint, GetError, get};

/// While it starts, the first `/` loads the IDE's server part: seconds on a busy machine.
pub(super) const START_LIMIT: Duration = Duration::from_secs(15);
/// Once it runs; nobody waits for the answer.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(3);

/// It does not serve the IDE.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProbeError {
    #[error("`{path}` does not answer")]
    NoAnswer {
        path: &'static str,
        #[source]
        source: GetError,
    },
    #[error("`{path}` answered {status}")]
    Status { path: &'static str, status: StatusCode },
}

/// `/` is the page, or the redirect to the page of the workspace.
pub(crate) async fn probe(endpoint: &Endpoint, limit: Duration) -> Result<(), ProbeError> {
    expect(endpoint, "/healthz", limit, &[StatusCode::OK]).await?;
    page(endpoint, limit).await
}

/// Only `/`.
pub(crate) async fn page(endpoint: &Endpoint, limit: Duration) -> Result<(), ProbeError> {
    expect(endpoint, "/", limit, &[StatusCode::OK, StatusCode::FOUND]).await
}

async fn expect(
    endpoint: &Endpoint,
    path: &'static str,
    limit: Duration,
    good: &[StatusCode],
) -> Result<(), ProbeError> {
    let answer =
        get(endpoint, path, limit).await.map_err(|source| ProbeError::NoAnswer { path, source })?;
    let status = answer.status();
    if good.contains(&status) { Ok(()) } else { Err(ProbeError::Status { path, status }) }
}
