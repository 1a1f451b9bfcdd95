//! What a container shall be: the body of `POST /config`.

use std::fmt;

use serde::{Deserialize, Serialize};
use zlh_ids::{ContainerType, Vmid};

/// `POST /config`. Answered 202 [`Accepted`](crate::agent::Accepted) before the work is done.
///
/// The same configuration again changes nothing; another one while an installation runs answers 409. The
/// field `container_type` says which of the two it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "container_type", rename_all = "lowercase")]
pub enum AgentConfig {
    /// A workspace and, when wanted, code-server.
    Dev(DevConfig),
    /// A game server.
    Game(GameConfig),
}

/// What a dev container shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevConfig {
    /// The container this configuration is meant for; an agent with another vmid refuses it.
    pub vmid: Vmid,
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

/// What a game container shall be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GameConfig {
    /// The container this configuration is meant for; an agent with another vmid refuses it.
    pub vmid: Vmid,
    /// Game id in `_catalog.json`, such as `openttd`.
    pub game: String,
    /// One of the game's variants, such as `vanilla`.
    pub variant: String,
    /// One of the variant's versions, exactly as the catalogue lists it.
    pub version: String,
    /// Name of the world: letters, digits, `-` and `_`, at most 64.
    pub world: String,
    /// The ports it listens on, in the order of [`ServerSpec::ports`](crate::game::ServerSpec::ports).
    pub ports: Vec<u16>,
    /// Memory that the container may use, in MiB.
    pub memory_mb: u32,
    /// The first administrator's name, for games that have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_user: Option<String>,
    /// The password that goes with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin_pass: Option<Hidden>,
    /// What happens when the server ends by itself.
    #[serde(default)]
    pub crash_policy: CrashPolicy,
    /// Where games and runtimes come from, such as `http://10.0.0.2:8083`; no trailing slash.
    pub artifact_base_url: String,
}

impl AgentConfig {
    /// The container this configuration is meant for.
    #[must_use]
    pub fn vmid(&self) -> Vmid {
        match self {
            Self::Dev(dev) => dev.vmid,
            Self::Game(game) => game.vmid,
        }
    }

    /// What the container is for.
    #[must_use]
    pub fn container_type(&self) -> ContainerType {
        match self {
            Self::Dev(_) => ContainerType::Dev,
            Self::Game(_) => ContainerType::Game,
        }
    }

    /// Where everything that is installed comes from.
    #[must_use]
    pub fn artifact_base_url(&self) -> &str {
        match self {
            Self::Dev(dev) => &dev.artifact_base_url,
            Self::Game(game) => &game.artifact_base_url,
        }
    }
}

/// Text that is sent and saved, but never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// What happens when a server ends by itself. A stop that was asked for never counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CrashPolicy {
    /// Seconds until the first, second, … start after a crash. One crash more, and the state is `error`:
    /// none at all means that it is never started again by itself. At most 16, each at most 3,600.
    pub restart_after_seconds: Vec<u32>,
    /// Seconds of uptime after which earlier crashes do not count any more.
    pub reset_after_seconds: u32,
    /// Crashes after which another start would only fail again.
    pub give_up_on: Vec<CrashClass>,
}

impl Default for CrashPolicy {
    fn default() -> Self {
        Self {
            restart_after_seconds: vec![30, 60, 120],
            reset_after_seconds: 30,
            give_up_on: Vec::new(),
        }
    }
}

/// Why a server ended, as far as its end and its last words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CrashClass {
    /// It, or the system, had no memory left.
    Oom,
    /// A mod or plugin is to blame.
    ModOrPluginError,
    /// A file, library or other mod that it needs is not there.
    MissingDependency,
    /// It ended with an exit code of its own, or died by a signal, and nothing says more.
    NonzeroExit,
    /// It ended well although nobody asked it to, or nobody saw how.
    UnexpectedExit,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GAME: &str = r#"{"container_type":"game","vmid":5001,"game":"openttd","variant":"vanilla",
        "version":"13.0","world":"world","ports":[50000],"memory_mb":512,"admin_pass":"s3cret",
        "artifact_base_url":"http://10.0.0.2:8083"}"#;

    #[test]
    fn the_container_type_says_which_fields_there_are() {
        let config: AgentConfig = serde_json::from_str(GAME).unwrap();

        assert_eq!(config.vmid().get(), 5001);
        assert_eq!(config.container_type(), ContainerType::Game);
        let again = serde_json::to_string(&config).unwrap();
        assert!(again.starts_with(r#"{"container_type":"game","vmid":5001,"#), "{again}");
        assert_eq!(serde_json::from_str::<AgentConfig>(&again).unwrap(), config);

        for (from, to) in
            [(r#""game":"openttd","#, ""), ("variant", "runtime"), ("game\"", "dev\"")]
        {
            let wrong = GAME.replacen(from, to, 1);
            assert!(serde_json::from_str::<AgentConfig>(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_server_has_the_published_crash_policy_unless_told_otherwise() {
        let AgentConfig::Game(config) = serde_json::from_str(GAME).unwrap() else {
            panic!("it is a game");
        };

        assert_eq!(config.crash_policy.restart_after_seconds, [30, 60, 120]);
        assert_eq!(config.crash_policy.reset_after_seconds, 30);
    }

    #[test]
    fn the_password_is_not_printed() {
        let config: AgentConfig = serde_json::from_str(GAME).unwrap();

        assert!(!format!("{config:?}").contains("s3cret"));
    }
}
