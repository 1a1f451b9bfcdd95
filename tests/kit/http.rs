//! A plain HTTP/1.1 client: one connection per request, every header as given, no redirects followed.

use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::http::header::{CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use ::http::{HeaderMap, Method, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Longest wait for one answer: an operation that takes longer is polled.
const LIMIT: Duration = Duration::from_secs(60);

/// An answer, whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {self:?}"))
    }

    /// One header as text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// This answer, which must have that status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{} {:?}", self.text(), self.headers);
        self
    }

    /// What an observer can tell two answers apart by: everything but the request id and the time.
    #[must_use]
    pub fn fingerprint(&self) -> (StatusCode, Vec<(String, String)>, String) {
        let mut headers: Vec<_> = self
            .headers
            .iter()
            .filter(|(name, _)| *name != "x-request-id" && *name != "date")
            .map(|(name, value)| {
                (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned())
            })
            .collect();
        headers.sort();
        (self.status, headers, self.text())
    }
}

/// Sends a request whose URI is a path; `Host` is the address unless the headers say otherwise.
///
/// # Errors
/// When there is no connection, it breaks, or no answer comes.
pub async fn send(to: SocketAddr, request: Request<Bytes>) -> std::io::Result<Reply> {
    let answer = async {
        let response = start(to, request).await?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
        Ok(Reply { status: parts.status, headers: parts.headers, body })
    };
    tokio::time::timeout(LIMIT, answer).await?
}

/// A request with a JSON body, or none.
#[must_use]
pub fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&Value>,
) -> Request<Bytes> {
    let mut builder = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    if body.is_some() {
        builder = builder.header(CONTENT_TYPE, "application/json");
    }
    let bytes = body.map(|body| Bytes::from(body.to_string())).unwrap_or_default();
    builder.body(bytes).expect("a request")
}

/// Asks for a WebSocket.
///
/// # Errors
/// With the answer when it is not 101.
pub async fn websocket(
    to: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
) -> Result<Socket, Reply> {
    let mut request = request(Method::GET, path, headers, None);
    for (name, value) in [
        (CONNECTION.as_str(), "Upgrade"),
        (UPGRADE.as_str(), "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ] {
        request.headers_mut().insert(
            ::http::HeaderName::try_from(name).expect("a name"),
            ::http::HeaderValue::from_static(value),
        );
    }
    let answer = async {
        let mut response = start(to, request).await.expect("an answer to an upgrade");
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let upgraded =
                hyper::upgrade::on(&mut response).await.expect("the connection after its 101");
            return Ok(Socket(TokioIo::new(upgraded)));
        }
        let (parts, body) = response.into_parts();
        let body = body.collect().await.expect("a body").to_bytes();
        Err(Reply { status: parts.status, headers: parts.headers, body })
    };
    tokio::time::timeout(LIMIT, answer).await.expect("an answer to an upgrade in time")
}

pub(crate) async fn start(
    to: SocketAddr,
    mut request: Request<Bytes>,
) -> std::io::Result<::http::Response<hyper::body::Incoming>> {
    if !request.headers().contains_key(HOST) {
        let host =
            ::http::HeaderValue::try_from(to.to_string()).expect("an address is a header value");
        request.headers_mut().insert(HOST, host);
    }
    let stream = TcpStream::connect(to).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(std::io::Error::other)?;
    // Ends with the connection, which ends with the response's body.
    tokio::spawn(connection.with_upgrades());
    sender.send_request(request.map(Full::new)).await.map_err(std::io::Error::other)
}

/// An open WebSocket, as its bytes.
pub struct Socket(TokioIo<hyper::upgrade::Upgraded>);

impl Socket {
    /// Whether the other side closes it within the time.
    pub async fn closes_within(&mut self, limit: Duration) -> bool {
        let end = async {
            let mut buffer = [0; 4096];
            // A close frame is followed by the end of the connection; data before it does not matter.
            while !matches!(self.0.read(&mut buffer).await, Ok(0) | Err(_)) {}
        };
        tokio::time::timeout(limit, end).await.is_ok()
    }
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an open WebSocket")
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
