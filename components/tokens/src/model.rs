//! Where an IDE or an agent is found, and what a token for it says.

use zlh_agent_protocol::internal::{Machine, StreamKind};
use zlh_ids::{ContainerType, InstanceId, SessionId, UserId, Vmid};

/// How the portal's users reach an IDE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IdeUrls {
    /// Each container has a host name of its own, and so an origin of its own (D03).
    Hosted {
        /// `http` or `https`.
        scheme: String,
        /// What follows `dev-<vmid>.`, with the port if it is not the scheme's own.
        suffix: String,
    },
    /// A path of the API's origin leads to a listener that all IDEs share (D02).
    Tunnel,
}

impl IdeUrls {
    /// Where a browser goes with a token. The token needs no escaping: its alphabet is base64url and dots.
    #[must_use]
    pub fn url(&self, vmid: Vmid, token: &str) -> String {
        match self {
            Self::Hosted { scheme, suffix } => {
                format!("{scheme}://dev-{vmid}.{suffix}/?token={token}")
            }
            Self::Tunnel => format!("/api/dev/{vmid}/ide?token={token}"),
        }
    }
}

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// The container's IDE.
    Ide,
    /// Another stream of the container.
    Stream(StreamKind),
}

/// A dev container that may be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ide {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance_id: InstanceId,
    /// Where code-server listens; none until the container is here.
    pub ide_address: Option<String>,
    /// Whose machine that is on.
    pub machine: Machine,
}

/// A container of either kind that may be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance_id: InstanceId,
    /// What it is for.
    pub ctype: ContainerType,
    /// Where its agent listens; none until the container is here.
    pub agent_address: Option<String>,
    /// Whose machine that is on.
    pub machine: Machine,
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamToken {
    /// Unique to the token.
    pub jti: String,
    /// Whose it is.
    pub user_id: UserId,
    /// The login that it hangs on.
    pub session_id: SessionId,
    /// The container that it opens.
    pub vmid: Vmid,
    /// The life of that container.
    pub instance_id: InstanceId,
    /// When it ends, in Unix milliseconds.
    pub expires_at_ms: i64,
}
