//! What an agent serves on its own listener. Every route but `/health` wants `Authorization: Bearer`
//! with the container's token; only the control plane calls it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zlh_ids::{ContainerType, InstanceId, Vmid};

/// The credential that one container's agent asks for.
///
/// HMAC-SHA-256 over the instance, keyed with the node secret: nothing has to be stored, and a vmid that
/// is used again gets another token.
#[must_use]
pub fn agent_token(secret: &[u8], vmid: Vmid, instance: InstanceId) -> String {
    #[expect(clippy::expect_used, reason = "HMAC takes keys of any length (RFC 2104 section 2)")]
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("any key length");
    mac.update(format!("zlh-agent:{vmid}:{instance}").as_bytes());
    URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes())
}

/// `POST /config`: what the container shall be. Answered 202 [`Accepted`] before the work is done.
///
/// The same configuration again changes nothing; another one while an installation runs answers 409.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AgentConfig {
    /// The container this configuration is meant for; an agent with another vmid refuses it.
    pub vmid: Vmid,
    /// What the container is for.
    pub container_type: ContainerType,
    /// Runtime id in `devcontainer/_catalog.json`, such as `node`.
    pub runtime: String,
    /// Version of the runtime, exactly as the catalogue lists it.
    pub version: String,
    /// Memory that the container may use, in MiB.
    pub memory_mb: u32,
    /// Whether code-server shall be installed and running.
    #[serde(default)]
    pub enable_code_server: bool,
    /// Where runtimes and code-server come from, such as `http://10.0.0.2:8083`; no trailing slash.
    pub artifact_base_url: String,
}

/// Answer to `POST /config`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Always true.
    pub ok: bool,
    /// The state that follows.
    pub state: AgentState,
}

/// What the agent as a whole is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentState {
    /// No configuration yet.
    #[default]
    Idle,
    /// Installing or starting what the configuration asks for.
    Installing,
    /// The workload is up. For a dev container: provisioned, and code-server up if it is wanted.
    Running,
    /// The workload ended by itself and will be started again.
    Crashed,
    /// Given up; `error` says why.
    Error,
}

impl AgentState {
    /// The word used on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Installing => "installing",
            Self::Running => "running",
            Self::Crashed => "crashed",
            Self::Error => "error",
        }
    }
}

/// `GET /ready`: semantic readiness. 200 when `ready`, else 503, the body being the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Ready {
    /// The container that answers.
    pub vmid: Vmid,
    /// The workload can do its work now.
    pub ready: bool,
    /// What was checked, such as `codeserver-http` or `dev-provisioned`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_source: Option<String>,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ready_error: Option<String>,
}

/// `GET /status`: the detail snapshot. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The container that answers.
    pub vmid: Vmid,
    /// What the container is for; none before the first configuration.
    pub container_type: Option<ContainerType>,
    /// What the agent is doing.
    pub state: AgentState,
    /// Whether the workload's process runs.
    pub process_running: bool,
    /// The last semantic check's outcome.
    pub ready: bool,
    /// What was checked.
    pub ready_source: Option<String>,
    /// Why it is not ready.
    pub ready_error: Option<String>,
    /// When it was last ready.
    pub last_ready_at: Option<String>,
    /// The step an installation is at.
    pub install_step: Option<String>,
    /// Crashes in a row.
    pub crash_count: u32,
    /// Why the state is `error`.
    pub error: Option<String>,
    /// The configuration's runtime and version are unpacked and verified.
    pub runtime_installed: bool,
    /// User, home, workspace and runtime are in place.
    pub dev_provisioned: bool,
    /// When that was first so.
    pub dev_ready_at: Option<String>,
    /// Everything the configuration asks for is in place (B34).
    pub provisioning_complete: bool,
    /// The workspace as processes in the container see it.
    pub workspace_root: Option<String>,
    /// code-server is unpacked and verified.
    pub code_server_installed: bool,
    /// A code-server process was found.
    pub code_server_running: bool,
    /// A mutating operation is running; a second one answers 409.
    pub operation_in_progress: bool,
    /// Which one.
    pub operation_type: Option<String>,
    /// Version of the agent.
    pub agent_version: String,
    /// When this snapshot was taken.
    pub timestamp: String,
}

/// `GET /version`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// Semantic version of the agent.
    pub version: String,
}

/// `POST /dev/codeserver/{start,stop,restart}`: 200 once it is so; 202 when that takes longer than a request
/// may, and goes on: `/status` tells. 409 while another operation runs or
/// before a configuration with code-server; 503 when code-server does not come up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(description = "Whether code-server runs, as the container's agent says.")]
pub struct CodeServerState {
    /// Always true.
    pub ok: bool,
    /// Whether code-server runs now.
    pub code_server_running: bool,
}

/// Any answer of an agent that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentError {
    /// A sentence for people.
    pub error: String,
    /// A code of `zlh-error-code`.
    pub code: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reused_vmid_gets_another_token() {
        let vmid = Vmid::new(6001).unwrap();
        let (first, second) = (InstanceId::random(), InstanceId::random());

        assert_eq!(agent_token(b"secret", vmid, first), agent_token(b"secret", vmid, first));
        assert_ne!(agent_token(b"secret", vmid, first), agent_token(b"secret", vmid, second));
        assert_ne!(agent_token(b"secret", vmid, first), agent_token(b"other", vmid, first));
    }
}
