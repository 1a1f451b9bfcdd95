//! Fakes at the network's edge: a raw upstream, a raw client, and somebody who decides.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use http::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};
use zlh_agent_protocol::internal::{
    CheckIde, CheckStream, IdeAccess, IdeCredential, IdeGrant, Machine, OpenIde, OpenedIde,
    RevalidateIde, RevalidatedIde, StreamAccess,
};
use zlh_authn::token::{SigningKeys, TokenKind, generate_key};
use zlh_ids::{ContainerType, InstanceId, SessionId, UserId, Vmid};

use crate::api::{CallError, ComponentApi, RemoteApi};
use crate::config::{EdgeLimits, PublicScheme};
use crate::edge::listener::{self, Bounds};
use crate::edge::{Door, Edge};
use crate::ide_proxy::host::HostSuffix;
use crate::ide_proxy::{IdeAuthority, IdeProxy, PublicFace};
use crate::metrics::Metrics;
use crate::reach::Reach;
use crate::streams::files::{FileStreams, StreamAuthority};
use crate::streams::registry::Registry;

pub(crate) const VMID: u32 = 6001;

/// Knows one container, one token and one session.
pub(crate) struct FakeAuthority {
    pub(crate) grant: IdeGrant,
    pub(crate) ide_address: String,
    pub(crate) calls: Mutex<Vec<&'static str>>,
}

impl FakeAuthority {
    fn access(&self) -> IdeAccess {
        IdeAccess {
            vmid: self.grant.vmid,
            instance_id: self.grant.instance_id,
            user_id: self.grant.user_id,
            session_id: self.grant.session_id,
            ide_address: self.ide_address.clone(),
            machine: Machine::default(),
            expires_at_ms: i64::MAX,
        }
    }

    fn answer(&self, call: &'static str, vmid: Vmid, good: bool) -> Result<IdeAccess, CallError> {
        self.calls.lock().unwrap().push(call);
        let status = match (vmid == self.grant.vmid, good) {
            (true, true) => return Ok(self.access()),
            (true, false) => StatusCode::UNAUTHORIZED,
            (false, _) => StatusCode::NOT_FOUND,
        };
        Err(CallError::Status { call: call.to_owned(), status, message: "a hint".to_owned() })
    }
}

#[async_trait]
impl IdeAuthority for FakeAuthority {
    async fn open(&self, call: &OpenIde) -> Result<OpenedIde, CallError> {
        let access = self.answer("open", call.vmid, call.token == "token")?;
        Ok(OpenedIde { session: "session".to_owned(), max_age_seconds: 60, access })
    }

    async fn check(&self, call: &CheckIde) -> Result<IdeAccess, CallError> {
        let good = match &call.credential {
            IdeCredential::Session(session) => session == "session",
            IdeCredential::Token(token) => token == "token",
        };
        self.answer("check", call.vmid, good)
    }

    async fn revalidate(&self, _: &RevalidateIde) -> Result<RevalidatedIde, CallError> {
        Ok(RevalidatedIde { revoked: Vec::new() })
    }
}

/// The way from that host-proxy's machine, with keys that nobody else has.
pub(crate) fn reach(host_id: &str) -> Arc<Reach> {
    let key = generate_key(TokenKind::Internal).unwrap();
    let keys = serde_json::json!([key.signing]).to_string();
    Reach::new(host_id, SigningKeys::from_json(&keys).unwrap())
}

/// The agent is where the IDE is.
#[async_trait]
impl StreamAuthority for FakeAuthority {
    async fn check_stream(&self, call: &CheckStream) -> Result<StreamAccess, CallError> {
        self.answer("check-stream", call.vmid, call.token == "token").map(|_| StreamAccess {
            grant: self.grant,
            ctype: ContainerType::Dev,
            agent_address: self.ide_address.clone(),
            machine: Machine::default(),
            expires_at_ms: i64::MAX,
        })
    }
}

/// An edge on real sockets, in front of raw ones that the test plays.
pub(crate) struct Stage {
    pub(crate) public: SocketAddr,
    pub(crate) tunnel: SocketAddr,
    pub(crate) ide: TcpListener,
    pub(crate) components: TcpListener,
    pub(crate) authority: Arc<FakeAuthority>,
    pub(crate) streams: Arc<Registry>,
    _stop: DropGuard,
}

impl Stage {
    pub(crate) async fn set() -> Self {
        let [public, tunnel, ide, components] =
            [listen().await, listen().await, listen().await, listen().await];
        let grant = IdeGrant {
            vmid: Vmid::new(VMID).unwrap(),
            instance_id: InstanceId::random(),
            user_id: UserId::random(),
            session_id: SessionId::random(),
        };
        let authority = Arc::new(FakeAuthority {
            grant,
            ide_address: ide.local_addr().unwrap().to_string(),
            calls: Mutex::default(),
        });
        let streams = Registry::new(2);
        let face = PublicFace {
            scheme: PublicScheme::Http,
            tunnel_url: None,
            tunnel_address: Some(tunnel.local_addr().unwrap()),
        };
        let proxy =
            Arc::new(IdeProxy::new(authority.clone(), reach("here"), Arc::clone(&streams), face));
        let base = format!("http://{}", components.local_addr().unwrap());
        let limits = EdgeLimits {
            max_connections: 64,
            max_body_bytes: 1024,
            max_ide_streams: 2,
            drain: std::time::Duration::ZERO,
            drain_delay: std::time::Duration::ZERO,
        };
        let edge = Arc::new(Edge::new(
            ComponentApi::Remote(Box::new(RemoteApi::new(&base).unwrap())),
            proxy,
            FileStreams::new(
                authority.clone(),
                &reach("here"),
                "secret".to_owned(),
                Arc::clone(&streams),
            ),
            HostSuffix::local(),
            limits,
            Arc::new(Metrics::default()),
        ));
        let stop = CancellationToken::new();
        let addresses = (public.local_addr().unwrap(), tunnel.local_addr().unwrap());
        for (listener, door) in [(public, Door::Public), (tunnel, Door::Tunnel)] {
            let edge = Arc::clone(&edge);
            let bounds = Bounds { connections: 64, drain: std::time::Duration::ZERO };
            tokio::spawn(listener::serve(
                listener,
                bounds,
                stop.clone(),
                move |request, client| {
                    let edge = Arc::clone(&edge);
                    async move { edge.handle(door, request, client).await }
                },
            ));
        }
        Self {
            public: addresses.0,
            tunnel: addresses.1,
            ide,
            components,
            authority,
            streams,
            _stop: stop.drop_guard(),
        }
    }

    /// The host of the container's IDE.
    pub(crate) fn ide_host(&self) -> String {
        format!("dev-{VMID}.ide.localhost:{}", self.public.port())
    }

    pub(crate) fn revoke(&self) {
        self.streams.close_revoked(&HashSet::from([self.authority.grant]));
    }

    /// Sends a request to the public listener and reads the answer, which the edge gives by itself.
    pub(crate) async fn ask(&self, request: &str) -> Message {
        let mut client = Peer::connect(self.public).await;
        client.send(request).await;
        client.message().await
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

/// One end of a connection, byte for byte.
pub(crate) struct Peer {
    stream: TcpStream,
    unread: Vec<u8>,
}

/// What came over the wire.
pub(crate) struct Message {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Message {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn status(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }
}

impl Peer {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self { stream: TcpStream::connect(address).await.unwrap(), unread: Vec::new() }
    }

    pub(crate) async fn accept(listener: &TcpListener) -> Self {
        Self { stream: listener.accept().await.unwrap().0, unread: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next head, without what comes after it.
    pub(crate) async fn head(&mut self) -> String {
        loop {
            if let Some(end) = self.unread.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..end + 4).collect();
                return String::from_utf8(head).unwrap();
            }
            self.fill().await;
        }
    }

    /// The next head and as much body as it announces.
    pub(crate) async fn message(&mut self) -> Message {
        let mut message = Message { head: self.head().await, body: String::new() };
        if let Some(length) = message.header("content-length") {
            message.body = self.text(length.parse().unwrap()).await;
        }
        message
    }

    /// So many bytes.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.unread.len() < length {
            self.fill().await;
        }
        self.unread.drain(..length).collect()
    }

    /// The same as text.
    pub(crate) async fn text(&mut self, length: usize) -> String {
        String::from_utf8(self.bytes(length).await).unwrap()
    }

    /// Everything until the other end closes.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        let mut rest = std::mem::take(&mut self.unread);
        // A reset ends a stream as well as an orderly end does.
        let _ = self.stream.read_to_end(&mut rest).await;
        rest
    }

    /// The same, and then closes this end.
    pub(crate) async fn end(mut self) -> Vec<u8> {
        self.rest().await
    }

    async fn fill(&mut self) {
        let mut chunk = [0; 4096];
        let count = self.stream.read(&mut chunk).await.unwrap();
        assert_ne!(
            count,
            0,
            "the other end closed after {:?}",
            String::from_utf8_lossy(&self.unread)
        );
        self.unread.extend_from_slice(&chunk[..count]);
    }
}
