//! A GET over TCP or a unix socket, with limits and without redirects.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// Where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `host:port`.
    Tcp(String),
    /// A socket that this user must be listening on: whoever owns its folder may have put a link to another
    /// one there.
    Unix { path: PathBuf, uid: u32 },
}

/// No answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GetError {
    #[error("no connection")]
    Connect(#[source] io::Error),
    #[error("the socket is served by user {0}")]
    ForeignSocket(u32),
    #[error("no answer")]
    Http(#[from] hyper::Error),
    #[error("not a valid request")]
    Request(#[from] http::Error),
    #[error("no answer in time")]
    Timeout,
}

impl Endpoint {
    /// Where a program of this machine is reached that was told to listen on `address`.
    pub(crate) fn listening_on(address: SocketAddr) -> Self {
        let ip = match address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
            ip => ip,
        };
        Self::Tcp(SocketAddr::new(ip, address.port()).to_string())
    }
}

/// Sends the request and waits up to `limit` for the head of the answer; its body is the caller's to limit.
///
/// Dropping the future or the answer closes the connection.
pub(crate) async fn get(
    endpoint: &Endpoint,
    path: &str,
    limit: Duration,
) -> Result<Response<Incoming>, GetError> {
    tokio::time::timeout(limit, async {
        match endpoint {
            Endpoint::Tcp(address) => {
                let stream = connect(TcpStream::connect(address)).await?;
                exchange(stream, address, path).await
            }
            Endpoint::Unix { path: socket, uid } => {
                let stream = connect(UnixStream::connect(socket)).await?;
                let peer = stream.peer_cred().map_err(GetError::Connect)?.uid();
                if peer != *uid {
                    return Err(GetError::ForeignSocket(peer));
                }
                exchange(stream, "localhost", path).await
            }
        }
    })
    .await
    .map_err(|_| GetError::Timeout)?
}

async fn connect<S>(connecting: impl Future<Output = io::Result<S>>) -> Result<S, GetError> {
    tokio::time::timeout(CONNECT_LIMIT, connecting)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(GetError::Connect)
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    host: &str,
    path: &str,
) -> Result<Response<Incoming>, GetError> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // Ends when the sender and the answer's body are dropped.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended badly");
        }
    });
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("zlh-agent/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())?;
    Ok(sender.send_request(request).await?)
}
