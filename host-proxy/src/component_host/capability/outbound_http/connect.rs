//! Connections to addresses that are already checked, kept alive for the next request.

use std::collections::VecDeque;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};
use wasmtime_wasi_http::{Error, RequestOptions, Result, WasiBody};

/// Each of the three timeouts that a guest may set, where it sets none.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Connections that wait for another request, all hosts together.
const MAX_IDLE: usize = 64;
/// How long one waits; below what common servers allow, so that they rarely close it first.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);
/// How long a finished exchange may take to be ready for the next.
const REUSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a request goes, as the guest wrote it.
pub(super) struct Target {
    pub(super) scheme: String,
    /// A name or an address, the latter in brackets if it is IPv6.
    pub(super) host: String,
    pub(super) port: u16,
    /// Host, and port if it was written: the value of `host`.
    pub(super) authority: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}:{}", self.scheme, self.host, self.port)
    }
}

impl Target {
    pub(super) fn of(uri: &Uri) -> Result<Self> {
        let host = uri.host().filter(|h| !h.is_empty()).ok_or(Error::HttpRequestUriInvalid)?;
        let scheme = uri.scheme().unwrap_or(&Scheme::HTTPS);
        let default = if *scheme == Scheme::HTTPS { 443 } else { 80 };
        let authority = match uri.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        Ok(Self {
            scheme: scheme.to_string(),
            host: host.to_owned(),
            port: uri.port_u16().unwrap_or(default),
            authority,
        })
    }

    fn unbracketed(&self) -> &str {
        self.host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&self.host)
    }

    pub(super) async fn resolve(&self, options: &RequestOptions) -> Result<Vec<SocketAddr>> {
        if let Ok(address) = self.unbracketed().parse::<IpAddr>() {
            return Ok(vec![SocketAddr::new(address, self.port)]);
        }
        let lookup = tokio::net::lookup_host((self.host.as_str(), self.port));
        let limit = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
        match timeout(limit, lookup).await {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(error)) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "resolution failed");
                Err(Error::DnsError {
                    rcode: Some("address not available".into()),
                    info_code: None,
                })
            }
            Err(_) => Err(Error::DnsTimeout),
        }
    }
}

/// What a connection may be reused for.
#[derive(Clone, PartialEq)]
struct Key {
    address: SocketAddr,
    /// The name that the certificate was checked for.
    tls: Option<String>,
}

struct Idle {
    key: Key,
    sender: SendRequest<WasiBody>,
    since: Instant,
}

/// Opens connections, and keeps those that can be used again.
pub(crate) struct Connections {
    idle: Mutex<VecDeque<Idle>>,
    tls: TlsConnector,
}

impl Connections {
    pub(crate) fn new() -> std::result::Result<Arc<Self>, rustls::Error> {
        let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
        // Named, because a process with two providers has no default one.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Arc::new(Self { idle: Mutex::default(), tls: Arc::new(config).into() }))
    }

    /// Sends a request to the first of `addresses` that accepts a connection.
    pub(super) async fn send(
        self: Arc<Self>,
        target: Target,
        addresses: &[SocketAddr],
        mut request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>> {
        let tls = (target.scheme == "https").then(|| target.unbracketed().to_owned());
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        *request.uri_mut() = path.parse().map_err(|_| Error::HttpRequestUriInvalid)?;

        let keys = addresses.iter().map(|address| Key { address: *address, tls: tls.clone() });
        let first_byte = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
        while let Some((key, mut sender)) = keys.clone().find_map(|key| self.take(key)) {
            let sent = sender.try_send_request(request);
            match timeout(first_byte, sent).await.map_err(|_| Error::ConnectionReadTimeout)? {
                Ok(response) => return Ok(self.response(key, sender, response, &options)),
                // The server closed the idle connection before it saw the request: send it again.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(error.into_error().into()),
                },
            }
        }
        let (key, mut sender) = self.connect(keys, &options).await?;
        let response = timeout(first_byte, sender.send_request(request))
            .await
            .map_err(|_| Error::ConnectionReadTimeout)??;
        Ok(self.response(key, sender, response, &options))
    }

    async fn connect(
        &self,
        keys: impl Iterator<Item = Key>,
        options: &RequestOptions,
    ) -> Result<(Key, SendRequest<WasiBody>)> {
        let limit = options.connect_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let mut failure = Error::DestinationNotFound;
        for key in keys {
            match timeout(limit, self.connect_to(&key)).await {
                Ok(Ok(sender)) => return Ok((key, sender)),
                Ok(Err(error)) => failure = error,
                Err(_) => failure = Error::ConnectionTimeout,
            }
        }
        Err(failure)
    }

    async fn connect_to(&self, key: &Key) -> Result<SendRequest<WasiBody>> {
        let stream = TcpStream::connect(key.address).await.map_err(Error::Connect)?;
        stream.set_nodelay(true).map_err(Error::Connect)?;
        match &key.tls {
            None => handshake(stream).await,
            Some(name) => {
                let name =
                    ServerName::try_from(name.clone()).map_err(|_| Error::HttpRequestUriInvalid)?;
                let stream = self.tls.connect(name, stream).await.map_err(Error::Tls)?;
                handshake(stream).await
            }
        }
    }

    fn take(&self, key: Key) -> Option<(Key, SendRequest<WasiBody>)> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_TIMEOUT);
        let index = idle.iter().rposition(|idle| idle.key == key)?;
        idle.remove(index).map(|idle| (key, idle.sender))
    }

    fn keep(&self, key: Key, sender: SendRequest<WasiBody>) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|idle| !idle.sender.is_closed() && idle.since.elapsed() < IDLE_TIMEOUT);
        if idle.len() == MAX_IDLE {
            idle.pop_front();
        }
        idle.push_back(Idle { key, sender, since: Instant::now() });
    }

    fn response(
        self: &Arc<Self>,
        key: Key,
        sender: SendRequest<WasiBody>,
        response: Response<Incoming>,
        options: &RequestOptions,
    ) -> Response<WasiBody> {
        let between_bytes = options.between_bytes_timeout.unwrap_or(DEFAULT_TIMEOUT);
        response.map(|incoming| {
            let body = ResponseBody {
                incoming,
                between_bytes,
                silent: Box::pin(sleep_until(Instant::now() + between_bytes)),
                complete: false,
                connection: Some((Arc::clone(self), key, sender)),
            };
            body.boxed_unsync()
        })
    }
}

async fn handshake(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
) -> Result<SendRequest<WasiBody>> {
    let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Ends when the sender and the response's body are dropped, or the server closes.
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(error = &error as &dyn std::error::Error, "outbound connection ended");
        }
    });
    Ok(sender)
}

/// A response's body; once it is complete, its connection is kept.
struct ResponseBody {
    incoming: Incoming,
    between_bytes: Duration,
    silent: Pin<Box<Sleep>>,
    complete: bool,
    connection: Option<(Arc<Connections>, Key, SendRequest<WasiBody>)>,
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>>>> {
        match Pin::new(&mut self.incoming).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let deadline = Instant::now() + self.between_bytes;
                self.silent.as_mut().reset(deadline);
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => {
                self.complete = true;
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.silent.as_mut().poll(context));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        if !(self.complete || self.incoming.is_end_stream()) {
            return;
        }
        let Some((connections, key, mut sender)) = self.connection.take() else { return };
        if sender.is_ready() {
            connections.keep(key, sender);
        } else if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Ok(Ok(())) = timeout(REUSE_TIMEOUT, sender.ready()).await {
                    connections.keep(key, sender);
                }
            });
        }
    }
}
