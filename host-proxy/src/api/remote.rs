//! Components behind a URL, such as an external Spin.

use std::time::Duration;

use http::header::HOST;
use http::uri::{Authority, Scheme};
use http::{Request, Response, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::body::{self, Body};

/// Connecting within one network takes milliseconds; longer means it is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Above the deadline that components have themselves, so that theirs is what answers.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(60);
/// Below the 30 s or more that servers keep idle connections for.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const MAX_IDLE_CONNECTIONS: usize = 64;

/// The remote host did not answer.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The base URL is not one this client speaks.
    #[error("`--api` must be an `http://` URL without a path")]
    Url,
    /// The request cannot be expressed.
    #[error("the request cannot be passed on")]
    Request(#[from] http::Error),
    /// No connection, or it broke.
    #[error("the components cannot be reached")]
    Connection(#[from] hyper_util::client::legacy::Error),
    /// No answer in time.
    #[error("the components did not answer in time")]
    Timeout,
}

/// A remote Spin. Redirects are passed on, never followed.
#[derive(Clone)]
pub struct RemoteApi {
    authority: Authority,
    client: Client<HttpConnector, Body>,
}

impl RemoteApi {
    /// Components at a base URL such as `http://10.0.0.5:3000`.
    ///
    /// # Errors
    ///
    /// [`RemoteError::Url`].
    pub fn new(base: &str) -> Result<Self, RemoteError> {
        let uri: Uri = base.parse().map_err(|_| RemoteError::Url)?;
        let plain =
            uri.scheme() == Some(&Scheme::HTTP) && uri.path() == "/" && uri.query().is_none();
        let authority = uri.authority().filter(|_| plain).cloned().ok_or(RemoteError::Url)?;
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .build(connector);
        Ok(Self { authority, client })
    }

    /// Passes one request on. Its `Host` becomes that of the components: whatever runs them may give names
    /// of clients' choice a meaning, and the components themselves read `X-Forwarded-Host`.
    ///
    /// # Errors
    ///
    /// The host did not answer.
    pub async fn call(&self, request: Request<Body>) -> Result<Response<Body>, RemoteError> {
        let (mut parts, body) = request.into_parts();
        let mut uri = Uri::builder().scheme(Scheme::HTTP).authority(self.authority.clone());
        if let Some(path) = parts.uri.path_and_query() {
            uri = uri.path_and_query(path.clone());
        }
        parts.uri = uri.build()?;
        parts.headers.remove(HOST);
        parts.version = http::Version::HTTP_11;
        let answer = self.client.request(Request::from_parts(parts, body));
        let response = tokio::time::timeout(RESPONSE_TIMEOUT, answer)
            .await
            .map_err(|_| RemoteError::Timeout)??;
        Ok(response.map(body::received))
    }
}
