//! The addresses, taken before anything else is done: whoever connects early waits.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use super::StartError;
use crate::config::Config;

pub(super) struct Listeners {
    pub(super) public: TcpListener,
    pub(super) tunnel: Option<TcpListener>,
    pub(super) admin: TcpListener,
    pub(super) artifacts: TcpListener,
    pub(super) addresses: Addresses,
}

/// Where it listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// API, portal and hosted IDEs.
    pub public: SocketAddr,
    /// IDEs below `/__ide/`, unless they are off.
    pub tunnel: Option<SocketAddr>,
    /// Health and metrics.
    pub admin: SocketAddr,
    /// Artifacts for agents.
    pub artifacts: SocketAddr,
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> Result<Self, StartError> {
        let public = bind(config.listen, "--listen").await?;
        let tunnel = match config.ide_listen {
            Some(address) => Some(bind(address, "--ide-listen").await?),
            None => None,
        };
        let admin = bind(config.admin_listen, "--admin-listen").await?;
        let artifacts = bind(config.artifact_listen, "--artifact-listen").await?;
        let addresses = Addresses {
            public: public.1,
            tunnel: tunnel.as_ref().map(|tunnel| tunnel.1),
            admin: admin.1,
            artifacts: artifacts.1,
        };
        Ok(Self {
            public: public.0,
            tunnel: tunnel.map(|tunnel| tunnel.0),
            admin: admin.0,
            artifacts: artifacts.0,
            addresses,
        })
    }
}

pub(super) async fn bind(
    address: SocketAddr,
    setting: &'static str,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = async {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| StartError::Listen { address, setting, source })
}

/// A URL for this machine.
#[must_use]
pub fn url(address: SocketAddr) -> String {
    let ip = match address.ip() {
        ip if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        ip => ip,
    };
    format!("http://{}", SocketAddr::new(ip, address.port()))
}
