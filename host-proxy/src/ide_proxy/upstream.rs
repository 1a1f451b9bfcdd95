//! Connections to code-server, and plain requests over a pool of them.

use std::future::Future;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::uri::Scheme;
use http::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::{Mount, Refusal, request, response};
use crate::body::{self, Body};

/// The container is on this machine or in this network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// code-server loads itself on its first request, which takes seconds on a busy machine.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// A request with a body is answered after the body, which a slow client may send for minutes.
const HEAD_TIMEOUT_WITH_BODY: Duration = Duration::from_secs(600);
/// Below the 5 s after which Node closes idle connections.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// Browsers open at most six connections to one host.
const MAX_IDLE_CONNECTIONS: usize = 8;

/// Where an IDE listens. Only [`zlh_agent_protocol::internal::IdeAccess`] says so, never a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Tcp(String),
    Unix(PathBuf),
}

impl Target {
    pub(super) fn parse(address: &str) -> Result<Self, Refusal> {
        let target = match address.strip_prefix("unix:") {
            Some(path) => path.starts_with('/').then(|| Self::Unix(PathBuf::from(path))),
            None => address
                .rsplit_once(':')
                .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
                .map(|_| Self::Tcp(address.to_owned())),
        };
        target.ok_or(Refusal::Broken("address of an IDE"))
    }

    /// A name for the pool, which knows connections by URL. Socket paths are written in hexadecimal.
    fn pool_name(&self) -> String {
        match self {
            Self::Tcp(address) => address.clone(),
            Self::Unix(path) => {
                let bytes = path.as_os_str().as_bytes();
                bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + ".unix"
            }
        }
    }

    fn from_pool_name(uri: &Uri) -> Option<Self> {
        let name = uri.authority()?.as_str();
        let Some(hex) = name.strip_suffix(".unix") else { return Some(Self::Tcp(name.to_owned())) };
        let digit =
            |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes = hex.as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        let bytes = bytes.collect::<Option<Vec<u8>>>()?;
        Some(Self::Unix(PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))))
    }

    /// A connection of its own.
    pub(super) async fn connect(&self) -> io::Result<IdeStream> {
        let connect = async {
            match self {
                Self::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Ok(IdeStream::Tcp(stream))
                }
                Self::Unix(path) => {
                    let stream = UnixStream::connect(path).await?;
                    is_folders_owner(path, &stream).await?;
                    Ok(IdeStream::Unix(stream))
                }
            }
        };
        tokio::time::timeout(CONNECT_TIMEOUT, connect)
            .await
            .unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Refuses a listener that does not belong to whom the socket's folder belongs to. The container's own user
/// can put a link to another container's socket there, which only we could follow.
async fn is_folders_owner(socket: &Path, stream: &UnixStream) -> io::Result<()> {
    let folder = socket.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let owner = tokio::fs::symlink_metadata(folder).await?.uid();
    if stream.peer_cred()?.uid() == owner {
        return Ok(());
    }
    tracing::warn!(socket = %socket.display(), "an IDE's socket leads to another user's listener");
    Err(io::ErrorKind::PermissionDenied.into())
}

/// Plain requests.
pub(super) struct Upstream {
    client: Client<Connector, Body>,
}

impl Upstream {
    pub(super) fn new() -> Self {
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE_CONNECTIONS)
            .build(Connector);
        Self { client }
    }

    /// Sends a prepared request; the answer's body streams.
    pub(super) async fn send(
        &self,
        target: &Target,
        mut request: Request<Body>,
        mount: Mount,
    ) -> Result<Response<Body>, Refusal> {
        let path = request.uri().path_and_query().cloned().ok_or(Refusal::Invalid)?;
        *request.uri_mut() = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(target.pool_name())
            .path_and_query(path)
            .build()
            .map_err(|_| Refusal::Broken("address of an IDE"))?;
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

/// Makes connections for the pool.
#[derive(Clone)]
struct Connector;

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<IdeStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<IdeStream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        Box::pin(async move {
            let target = Target::from_pool_name(&uri).ok_or(io::ErrorKind::InvalidInput)?;
            target.connect().await.map(TokioIo::new)
        })
    }
}

/// A connection to an IDE.
pub(super) enum IdeStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Connection for IdeStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl AsyncRead for IdeStream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for IdeStream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(context),
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_port_or_a_socket() {
        assert_eq!(Target::parse("10.0.0.7:6000"), Ok(Target::Tcp("10.0.0.7:6000".to_owned())));
        assert_eq!(Target::parse("unix:/run/a"), Ok(Target::Unix(PathBuf::from("/run/a"))));
        for address in ["", "unix:", "unix:run", "host", "host:", ":80", "host:x"] {
            assert!(Target::parse(address).is_err(), "accepted {address:?}");
        }
    }

    #[tokio::test]
    async fn a_link_to_anothers_socket_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("ide.sock");
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let own = Target::Unix(socket.clone()).connect().await;
        assert!(own.is_ok(), "{:?}", own.err());

        // Only root can give a folder away; without it the ownership cannot differ, here or in production.
        if rustix::process::geteuid().is_root() {
            let link = folder.path().join("other");
            std::fs::create_dir(&link).unwrap();
            std::os::unix::fs::symlink(&socket, link.join("ide.sock")).unwrap();
            std::os::unix::fs::chown(&link, Some(65_534), None).unwrap();

            let crossed = Target::Unix(link.join("ide.sock")).connect().await;

            assert_eq!(
                crossed.err().map(|error| error.kind()),
                Some(io::ErrorKind::PermissionDenied)
            );
        }
    }

    #[test]
    fn a_socket_survives_its_way_through_the_pool() {
        let target =
            Target::Unix(PathBuf::from("/var/lib/zlh/containers/6001/root/run/ide/Ä.sock"));
        let uri: Uri = format!("http://{}/a", target.pool_name()).parse().unwrap();

        assert_eq!(Target::from_pool_name(&uri), Some(target));
    }
}
