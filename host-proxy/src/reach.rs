//! Connections to what listens in containers: directly where they are on this machine, through the gateway of
//! their own machine where they are not.

use std::future::Future;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::{Builder, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpStream, UnixStream};
use zlh_agent_protocol::internal::Machine;
use zlh_authn::token::SigningKeys;
use zlh_ids::{InstanceId, Vmid};

use crate::body::Body;

mod stream;
mod tunnel;

pub(crate) use stream::Stream;
pub(crate) use tunnel::PROTOCOL;

/// The container is on this machine, or its machine in this network.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// What listens in a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Its agent.
    Agent,
    /// Its code-server.
    Ide,
}

impl Service {
    /// The word in a path.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Ide => "ide",
        }
    }
}

/// Where one service of one container listens. Only components say so, never a client.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance: InstanceId,
    /// What listens.
    pub service: Service,
    /// `host:port`, or `unix:` and an absolute path.
    pub address: String,
    /// Whose machine that is on.
    pub machine: Machine,
}

impl Place {
    /// A name for pools, which know connections by URL.
    fn pool_name(&self) -> Option<String> {
        let bytes = serde_json::to_vec(self).ok()?;
        Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn from_pool_name(uri: &Uri) -> Option<Self> {
        let digit =
            |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let bytes = uri.authority()?.as_str().as_bytes().chunks(2).map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        });
        serde_json::from_slice(&bytes.collect::<Option<Vec<u8>>>()?).ok()
    }

    /// A URL that leads here through a pool of [`Reach::pool`].
    pub(crate) fn pool_uri(&self, path_and_query: &str) -> Option<Uri> {
        let name = self.pool_name()?;
        Uri::builder().scheme("http").authority(name).path_and_query(path_and_query).build().ok()
    }
}

/// The way to places.
pub struct Reach {
    host_id: String,
    keys: SigningKeys,
}

impl Reach {
    /// The way from the machine of that host-proxy, with its key of `internal` tokens.
    #[must_use]
    pub fn new(host_id: &str, keys: SigningKeys) -> Arc<Self> {
        Arc::new(Self { host_id: host_id.to_owned(), keys })
    }

    /// The gateway that leads to the place, if it is on another machine. A host-proxy without one shares this
    /// machine.
    #[must_use]
    pub fn gateway<'a>(&self, machine: &'a Machine) -> Option<&'a str> {
        machine.gateway_url.as_deref().filter(|_| machine.host.as_ref() != Some(&self.host_id))
    }

    /// A connection of its own.
    ///
    /// # Errors
    ///
    /// Nobody answers there in time, or it is not who should.
    pub(crate) async fn connect(&self, place: &Place) -> io::Result<Stream> {
        match self.gateway(&place.machine) {
            Some(gateway) => tunnel::open(gateway, place, &self.host_id, &self.keys).await,
            None => connect_here(&place.address).await,
        }
    }

    /// A client that keeps connections for the next request.
    pub(crate) fn pool(
        self: &Arc<Self>,
        idle_timeout: Duration,
        max_idle: usize,
    ) -> Client<Connector, Body> {
        Builder::new(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(idle_timeout)
            .pool_max_idle_per_host(max_idle)
            .build(Connector(Arc::clone(self)))
    }
}

/// A connection to an address of this machine.
pub(crate) async fn connect_here(address: &str) -> io::Result<Stream> {
    let connect = async {
        match address.strip_prefix("unix:").map(PathBuf::from) {
            Some(path) if path.is_absolute() => {
                let stream = UnixStream::connect(&path).await?;
                is_folders_owner(&path, &stream).await?;
                Ok(Stream::Unix(stream))
            }
            Some(_) => Err(io::ErrorKind::InvalidInput.into()),
            None => tcp(address).await.map(Stream::Tcp),
        }
    };
    in_time(CONNECT_TIMEOUT, connect).await
}

async fn tcp(address: &str) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn in_time<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(limit, work).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// Refuses a listener that does not belong to whom the socket's folder belongs to. The container's own user
/// can put a link to another container's socket there, which only we could follow.
async fn is_folders_owner(socket: &Path, stream: &UnixStream) -> io::Result<()> {
    let folder = socket.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let owner = tokio::fs::symlink_metadata(folder).await?.uid();
    if stream.peer_cred()?.uid() == owner {
        return Ok(());
    }
    tracing::warn!(socket = %socket.display(), "a socket leads to another user's listener");
    Err(io::ErrorKind::PermissionDenied.into())
}

/// Makes connections for a pool.
#[derive(Clone)]
pub(crate) struct Connector(Arc<Reach>);

impl tower::Service<Uri> for Connector {
    type Response = TokioIo<Stream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<TokioIo<Stream>>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let reach = Arc::clone(&self.0);
        Box::pin(async move {
            let place = Place::from_pool_name(&uri).ok_or(io::ErrorKind::InvalidInput)?;
            reach.connect(&place).await.map(TokioIo::new)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(address: &str) -> Place {
        Place {
            vmid: Vmid::new(6001).unwrap(),
            instance: InstanceId::random(),
            service: Service::Ide,
            address: address.to_owned(),
            machine: Machine { host: Some("a".to_owned()), gateway_url: None },
        }
    }

    #[tokio::test]
    async fn an_address_is_a_host_and_port_or_a_socket() {
        for address in ["", "unix:", "unix:run", "host", "host:", ":x", "host:x"] {
            assert!(connect_here(address).await.is_err(), "{address:?}");
        }
    }

    #[tokio::test]
    async fn a_link_to_anothers_socket_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("ide.sock");
        let _listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let own = connect_here(&format!("unix:{}", socket.display())).await;
        assert!(own.is_ok(), "{:?}", own.err());

        // Only root can give a folder away; without it the ownership cannot differ, here or in production.
        if rustix::process::geteuid().is_root() {
            let link = folder.path().join("other");
            std::fs::create_dir(&link).unwrap();
            std::os::unix::fs::symlink(&socket, link.join("ide.sock")).unwrap();
            std::os::unix::fs::chown(&link, Some(65_534), None).unwrap();

            let crossed = connect_here(&format!("unix:{}", link.join("ide.sock").display())).await;

            assert_eq!(
                crossed.err().map(|error| error.kind()),
                Some(io::ErrorKind::PermissionDenied)
            );
        }
    }

    #[test]
    fn a_place_survives_its_way_through_the_pool() {
        let place = place("unix:/var/lib/zlh/containers/6001/root/run/ide/Ä.sock");

        let uri = place.pool_uri("/a?b").unwrap();

        assert_eq!(Place::from_pool_name(&uri), Some(place));
        assert_eq!(uri.path_and_query().unwrap(), "/a?b");
    }

    #[test]
    fn only_what_is_on_another_machine_is_behind_a_gateway() {
        let keys = zlh_authn::token::generate_key(zlh_authn::token::TokenKind::Internal).unwrap();
        let keys = SigningKeys::from_json(&format!("[{}]", keys.signing)).unwrap();
        let reach = Reach::new("a", keys);
        let machine = |host: Option<&str>, url: Option<&str>| Machine {
            host: host.map(str::to_owned),
            gateway_url: url.map(str::to_owned),
        };

        assert_eq!(reach.gateway(&machine(Some("b"), Some("http://b"))), Some("http://b"));
        assert_eq!(reach.gateway(&machine(Some("a"), Some("http://a"))), None);
        assert_eq!(reach.gateway(&machine(Some("b"), None)), None);
        assert_eq!(reach.gateway(&machine(None, None)), None);
    }
}
