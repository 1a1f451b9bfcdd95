//! What an agent serves on its own listener. Every route but `/health` wants `Authorization: Bearer`
//! with the container's token; only the control plane calls it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zlh_ids::{ContainerType, InstanceId, Vmid};

use crate::config::CrashClass;

pub use crate::config::AgentConfig;

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

/// Answer to `POST /config`, and to the routes of [`Power`].
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
    /// Installing what the configuration asks for; for a dev container, also starting it.
    Installing,
    /// A game server runs and is not ready yet.
    Starting,
    /// The workload is up. For a dev container: provisioned, and code-server up if it is wanted. For a game
    /// server: it has become ready.
    Running,
    /// A game server was asked to end, and has not ended yet.
    Stopping,
    /// A game server was ended on purpose, or never started.
    Stopped,
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
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Crashed => "crashed",
            Self::Error => "error",
        }
    }
}

/// What can be done to a game server: `POST /start`, `/stop`, `/restart`, `/kill` and `/halt`, without a body.
///
/// - `start` answers 202 [`Accepted`] with `starting` once the process runs, or with `running` where it ran
///   already; `/ready` tells the rest.
/// - `stop` answers 204 once it has ended, or 202 with `stopping` when that takes longer than a request may,
///   and goes on. A stop of what does not run is 204.
/// - `restart` answers as `start` does, or 202 with `stopping` while the old process takes its time.
/// - `halt` answers as `stop` does; but the server is started again when its container is.
/// - `kill` ends whatever else is being done to the server, and every process of it: 204.
///
/// All but `kill` answer 409 while another operation runs. All answer 409 for a dev container, before a
/// configuration, and while the game is being installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Power {
    /// Runs it.
    Start,
    /// Ends it as its catalogue entry says.
    Stop,
    /// Ends it and runs it again.
    Restart,
    /// Ends it at once.
    Kill,
    /// Ends it as its catalogue entry says, because its container is about to stop.
    Halt,
}

impl Power {
    /// The route's path.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Start => "/start",
            Self::Stop => "/stop",
            Self::Restart => "/restart",
            Self::Kill => "/kill",
            Self::Halt => "/halt",
        }
    }
}

/// `GET /game/players`: 200; 503 when the server does not answer; 404 where the game cannot tell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(description = "Who plays on a server.", as = GamePlayers)]
pub struct Players {
    /// How many play now.
    pub online: u32,
    /// How many may.
    pub max: u32,
    /// Names, as far as the server tells them.
    pub players: Vec<String>,
}

/// `GET /install/log`: what the last installation said, newest last. The last lines are also in
/// [`Status::error`] of one that failed. `POST /install/abort` ends one that runs: 204; 409 where none does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstallLog {
    /// At most 200 lines, each at most 300 characters and without control characters.
    pub lines: Vec<String>,
}

/// How a game server last ended by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastCrash {
    /// When: RFC 3339 in UTC.
    #[serde(rename = "lastCrashTime")]
    pub time: String,
    /// Its exit code, where it ended with one.
    #[serde(rename = "lastCrashExitCode")]
    pub exit_code: Option<i32>,
    /// The number of the signal that it died by.
    #[serde(rename = "lastCrashSignal")]
    pub signal: Option<i32>,
    /// How long it had run, in seconds.
    #[serde(rename = "lastCrashUptimeSeconds")]
    pub uptime_seconds: u64,
    /// Why, as far as that can be told.
    #[serde(rename = "lastCrashClassification")]
    pub class: CrashClass,
    /// The last lines of its output: at most 50, each at most 300 characters and without control characters.
    #[serde(rename = "lastCrashLogTail")]
    pub log_tail: Vec<String>,
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
    /// The game server's process.
    #[serde(default)]
    pub pid: Option<u32>,
    /// How long it has run, in seconds.
    #[serde(default)]
    pub uptime_seconds: Option<u64>,
    /// When a crashed game server will be started again.
    #[serde(default)]
    pub next_start_at: Option<String>,
    /// Crashes in a row.
    pub crash_count: u32,
    /// How the game server last ended by itself.
    #[serde(flatten)]
    pub last_crash: Option<LastCrash>,
    /// Why the state is `error`.
    pub error: Option<String>,
    /// What the configuration names, a runtime or a game, is unpacked and verified.
    pub runtime_installed: bool,
    /// User, home, workspace and runtime are in place.
    pub dev_provisioned: bool,
    /// When that was first so.
    pub dev_ready_at: Option<String>,
    /// Everything the configuration asks for is in place (B34).
    pub provisioning_complete: bool,
    /// The workspace as processes in the container see it.
    pub workspace_root: Option<String>,
    /// The folder of the game server's own files.
    #[serde(default)]
    pub server_root: Option<String>,
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
    fn crash_facts_are_fields_of_the_status() {
        let text = r#"{"lastCrashTime":"2026-11-20T22:00:00Z","lastCrashExitCode":null,"lastCrashSignal":9,
            "lastCrashUptimeSeconds":3,"lastCrashClassification":"oom","lastCrashLogTail":["killed"]}"#;
        #[derive(Deserialize)]
        struct Part {
            #[serde(flatten)]
            last_crash: Option<LastCrash>,
        }

        let crash = serde_json::from_str::<Part>(text).unwrap().last_crash.unwrap();
        assert_eq!((crash.signal, crash.class), (Some(9), CrashClass::Oom));
        assert_eq!(serde_json::from_str::<Part>("{}").unwrap().last_crash, None);
    }

    #[test]
    fn a_reused_vmid_gets_another_token() {
        let vmid = Vmid::new(6001).unwrap();
        let (first, second) = (InstanceId::random(), InstanceId::random());

        assert_eq!(agent_token(b"secret", vmid, first), agent_token(b"secret", vmid, first));
        assert_ne!(agent_token(b"secret", vmid, first), agent_token(b"secret", vmid, second));
        assert_ne!(agent_token(b"secret", vmid, first), agent_token(b"other", vmid, first));
    }
}
