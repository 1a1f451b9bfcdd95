//! The addresses, taken before anything else is done: whoever connects early waits.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;

use super::StartError;
use crate::config::Config;
use crate::hand_over::{self, Named};

pub(super) struct Listeners {
    pub(super) public: TcpListener,
    pub(super) tunnel: Option<TcpListener>,
    pub(super) admin: TcpListener,
    pub(super) artifacts: TcpListener,
    pub(super) gateway: Option<TcpListener>,
    pub(super) addresses: Addresses,
    /// Second handles of all of them.
    pub(super) kept: Named,
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
    /// The agent gateway, unless it is off.
    pub gateway: Option<SocketAddr>,
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> Result<Self, StartError> {
        let mut inherited = inherited()?;
        let public = bind(&mut inherited, PUBLIC, config.listen).await?;
        let tunnel = match config.ide_listen {
            Some(address) => Some(bind(&mut inherited, IDE, address).await?),
            None => None,
        };
        let admin = bind(&mut inherited, ADMIN, config.admin_listen).await?;
        let artifacts = bind(&mut inherited, ARTIFACTS, config.artifact_listen).await?;
        let gateway = match config.gateway_listen {
            Some(address) => Some(bind(&mut inherited, GATEWAY, address).await?),
            None => None,
        };
        let addresses = Addresses {
            public: public.1,
            tunnel: tunnel.as_ref().map(|tunnel| tunnel.1),
            admin: admin.1,
            artifacts: artifacts.1,
            gateway: gateway.as_ref().map(|gateway| gateway.1),
        };
        let mut kept = Named::new();
        let mut keep =
            |kind, listener| keep(&mut kept, kind, listener).map_err(StartError::Inherited);
        Ok(Self {
            public: keep(PUBLIC, public.0)?,
            tunnel: tunnel.map(|tunnel| keep(IDE, tunnel.0)).transpose()?,
            admin: keep(ADMIN, admin.0)?,
            artifacts: keep(ARTIFACTS, artifacts.0)?,
            gateway: gateway.map(|gateway| keep(GATEWAY, gateway.0)).transpose()?,
            addresses,
            kept,
        })
    }
}

/// One listener of several: its name when it is handed over, and the flag that says where it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    name: &'static str,
    setting: &'static str,
}

pub(super) const PUBLIC: Kind = Kind { name: "public", setting: "--listen" };
pub(super) const IDE: Kind = Kind { name: "ide", setting: "--ide-listen" };
pub(super) const ADMIN: Kind = Kind { name: "admin", setting: "--admin-listen" };
pub(super) const ARTIFACTS: Kind = Kind { name: "artifacts", setting: "--artifact-listen" };

pub(super) const GATEWAY: Kind = Kind { name: "gateway", setting: "--gateway-listen" };

/// What was handed over to this process.
pub(super) fn inherited() -> Result<Named, StartError> {
    hand_over::inherited().map_err(StartError::Inherited)
}

/// The listener that was handed over under this name, wherever it is; else a new one.
pub(super) async fn bind(
    inherited: &mut Named,
    kind: Kind,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), StartError> {
    let bound = async {
        let listener = match inherited.remove(kind.name) {
            Some(listener) => TcpListener::from_std(listener)?,
            None => TcpListener::bind(address).await?,
        };
        let address = listener.local_addr()?;
        Ok((listener, address))
    };
    bound.await.map_err(|source| StartError::Listen { address, setting: kind.setting, source })
}

/// A second handle of a listener, for the process that comes after this one.
pub(super) fn keep(kept: &mut Named, kind: Kind, listener: TcpListener) -> io::Result<TcpListener> {
    let listener = listener.into_std()?;
    kept.insert(kind.name.to_owned(), listener.try_clone()?);
    TcpListener::from_std(listener)
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
