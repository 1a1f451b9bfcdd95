//! Plain requests to code-server, over a pool of connections.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper_util::client::legacy::Client;

use super::{Mount, Refusal, request, response};
use crate::body::{self, Body};
use crate::reach::{Connector, Place, Reach};

/// code-server loads itself on its first request, which takes seconds on a busy machine.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A request with a body is answered after the body, which a slow client may send for minutes.
const HEAD_TIMEOUT_WITH_BODY: Duration = Duration::from_secs(600);
/// Below the 5 s after which Node closes idle connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Browsers open at most six connections to one host.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// Plain requests.
pub(super) struct Upstream {
    client: Client<Connector, Body>,
    pub(super) reach: Arc<Reach>,
}

impl Upstream {
    pub(super) fn new(reach: Arc<Reach>) -> Self {
        Self { client: reach.pool(IDLE_TIMEOUT, MAX_IDLE_CONNECTIONS), reach }
    }

    /// Sends a prepared request; the answer's body streams.
    pub(super) async fn send(
        &self,
        place: &Place,
        mut request: Request<Body>,
        mount: Mount,
    ) -> Result<Response<Body>, Refusal> {
        let path = request.uri().path_and_query().cloned().ok_or(Refusal::Invalid)?;
        *request.uri_mut() =
            place.pool_uri(path.as_str()).ok_or(Refusal::Broken("address of an IDE"))?;
        let limit = match request::has_body(request.headers()) {
            true => HEAD_TIMEOUT_WITH_BODY,
            false => HEAD_TIMEOUT,
        };
        let answer = tokio::time::timeout(limit, self.client.request(request)).await;
        let answer = answer.map_err(|_| Refusal::IdeDown)?.map_err(|error| down(&error))?;
        received(answer, mount)
    }
}

/// A code-server's answer, filtered. One that switches protocols unasked is none.
pub(super) fn received(
    answer: Response<hyper::body::Incoming>,
    mount: Mount,
) -> Result<Response<Body>, Refusal> {
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        return Err(Refusal::IdeDown);
    }
    let mut answer = answer.map(body::received);
    response::filter(answer.headers_mut(), mount);
    Ok(answer)
}

pub(super) fn down(error: &(dyn std::error::Error + 'static)) -> Refusal {
    tracing::debug!(error, "an IDE does not answer");
    Refusal::IdeDown
}
