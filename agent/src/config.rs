//! Settings: the only place that reads the environment.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Component, Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use zlh_ids::Vmid;

use crate::code_server::{Listen, Template};

/// The port that the control plane expects every agent on.
pub const DEFAULT_PORT: u16 = 18888;
/// Where code-server listens unless told otherwise.
pub const DEFAULT_CODE_SERVER_LISTEN: &str = "0.0.0.0:6000";
/// `sun_path` holds 108 bytes, the last of which is zero (unix(7)).
const MAX_SOCKET_PATH: usize = 107;

/// A setting is missing or wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {problem}")]
pub struct ConfigError {
    /// The environment variable.
    pub variable: &'static str,
    /// What is wrong with it; the sentence goes on from the variable's name.
    pub problem: String,
}

/// Everything an agent is told by its environment.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the agent listens.
    pub listen: SocketAddr,
    /// The container this agent is in.
    pub vmid: Vmid,
    /// Where its credential is.
    pub token: TokenSource,
    /// The folder below which everything lies; `/` in a container of its own.
    pub root: PathBuf,
    /// Who runs the workload.
    pub user: String,
    /// The numeric ids that run the workload, in place of an account. They belong to this container alone:
    /// when it is deleted, every process that has the user id is killed.
    pub ids: Option<Ids>,
    /// Where code-server listens.
    pub code_server_listen: Listen,
    /// What code-server is started with.
    pub code_server_args: Template,
    /// Unpacked artifacts that the agents of one machine share.
    pub artifact_cache: Option<PathBuf>,
    /// How log lines are written.
    pub log_format: LogFormat,
}

/// Numeric user and group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ids {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Where the token is.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// In the environment.
    Value(Secret),
    /// In a file, which keeps it out of `/proc/<pid>/environ`.
    File(PathBuf),
}

/// Text that never reaches a log.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

/// How log lines are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret itself.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[secret]")
    }
}

impl TokenSource {
    /// Reads the token.
    ///
    /// # Errors
    ///
    /// The file cannot be read or has no token in it.
    pub fn read(&self) -> Result<Secret, ConfigError> {
        let path = match self {
            Self::Value(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
        };
        let wrong = |problem: String| ConfigError { variable: "ZLH_AGENT_TOKEN_FILE", problem };
        let text = std::fs::read_to_string(path).map_err(|error| {
            wrong(format!("names {}, which cannot be read: {error}", path.display()))
        })?;
        match text.trim() {
            "" => Err(wrong(format!("names {}, which is empty", path.display()))),
            token => Ok(Secret(token.to_owned())),
        }
    }
}

impl Config {
    /// Reads the process environment.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(|name| std::env::var(name).ok())
    }

    /// Reads settings from any source.
    ///
    /// # Errors
    ///
    /// Names the variable that is missing or wrong.
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let var = |name: &str| var(name).filter(|value| !value.is_empty());

        let port = parse(&var, "ZLH_AGENT_PORT", "is not a port")?.unwrap_or(DEFAULT_PORT);
        let listen = parse(&var, "ZLH_AGENT_LISTEN", "is not ADDRESS:PORT")?;
        let vmid = parse(&var, "ZLH_AGENT_VMID", "is not a vmid")?;
        let uid = parse(&var, "ZLH_AGENT_UID", "is not a numeric user id")?;
        let gid = parse(&var, "ZLH_AGENT_GID", "is not a numeric group id")?;
        let listen_variable = "ZLH_CODE_SERVER_LISTEN";
        let code_server_listen =
            var(listen_variable).unwrap_or_else(|| DEFAULT_CODE_SERVER_LISTEN.to_owned());

        Ok(Self {
            listen: listen.unwrap_or(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
            vmid: vmid.ok_or_else(|| error("ZLH_AGENT_VMID", "is not set"))?,
            token: token_source(&var)?,
            root: absolute(&var, "ZLH_AGENT_ROOT")?.unwrap_or_else(|| PathBuf::from("/")),
            user: user(&var)?,
            ids: ids(uid, gid)?,
            code_server_listen: code_server_listen
                .parse()
                .map_err(|problem: String| error(listen_variable, &problem))?,
            code_server_args: match var("ZLH_CODE_SERVER_ARGS") {
                Some(text) => text
                    .parse()
                    .map_err(|problem: String| error("ZLH_CODE_SERVER_ARGS", &problem))?,
                None => Template::default(),
            },
            artifact_cache: absolute(&var, "ZLH_ARTIFACT_CACHE")?,
            log_format: match var("ZLH_LOG_FORMAT").as_deref() {
                None | Some("text") => LogFormat::Text,
                Some("json") => LogFormat::Json,
                Some(_) => return Err(error("ZLH_LOG_FORMAT", "is neither `text` nor `json`")),
            },
        })
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some(path) = text.strip_prefix("unix:") else {
            return text
                .parse()
                .map(Self::Tcp)
                .map_err(|_| format!("is `{text}`, which is neither ADDRESS:PORT nor unix:PATH"));
        };
        let path = PathBuf::from(path);
        if !is_plain_absolute(&path) || path.parent().is_none_or(|folder| folder == Path::new("/"))
        {
            return Err(format!(
                "is `{text}`: the socket needs an absolute path in a folder of its own"
            ));
        }
        if path.as_os_str().len() > MAX_SOCKET_PATH {
            return Err(format!(
                "names a socket whose path is longer than {MAX_SOCKET_PATH} bytes"
            ));
        }
        Ok(Self::Unix(path))
    }
}

fn error(variable: &'static str, problem: &str) -> ConfigError {
    ConfigError { variable, problem: problem.to_owned() }
}

fn parse<T: FromStr>(
    var: &impl Fn(&str) -> Option<String>,
    variable: &'static str,
    problem: &str,
) -> Result<Option<T>, ConfigError> {
    var(variable).map(|text| text.parse().map_err(|_| error(variable, problem))).transpose()
}

fn absolute(
    var: &impl Fn(&str) -> Option<String>,
    variable: &'static str,
) -> Result<Option<PathBuf>, ConfigError> {
    // Components normalise a trailing slash away: the path's text marks processes, so it has one spelling.
    let Some(path) = var(variable).map(|text| Path::new(&text).components().collect::<PathBuf>())
    else {
        return Ok(None);
    };
    if is_plain_absolute(&path) {
        Ok(Some(path))
    } else {
        Err(error(variable, "is not an absolute path without `..`"))
    }
}

fn is_plain_absolute(path: &Path) -> bool {
    path.is_absolute()
        && path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
}

fn token_source(var: &impl Fn(&str) -> Option<String>) -> Result<TokenSource, ConfigError> {
    match (var("ZLH_AGENT_TOKEN"), var("ZLH_AGENT_TOKEN_FILE")) {
        (Some(token), None) => Ok(TokenSource::Value(Secret(token))),
        (None, Some(path)) => Ok(TokenSource::File(PathBuf::from(path))),
        (None, None) => {
            Err(error("ZLH_AGENT_TOKEN", "is not set, and neither is ZLH_AGENT_TOKEN_FILE"))
        }
        (Some(_), Some(_)) => {
            Err(error("ZLH_AGENT_TOKEN", "is set, and so is ZLH_AGENT_TOKEN_FILE: which is it?"))
        }
    }
}

fn user(var: &impl Fn(&str) -> Option<String>) -> Result<String, ConfigError> {
    let user = var("ZLH_AGENT_USER").unwrap_or_else(|| "dev".to_owned());
    // What useradd accepts everywhere; a leading `-` would be an option.
    let plain = user.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
    if plain
        && user.len() <= 32
        && user.starts_with(|first: char| first.is_ascii_lowercase() || first == '_')
    {
        Ok(user)
    } else {
        Err(error("ZLH_AGENT_USER", "is not a plain lower-case account name"))
    }
}

fn ids(uid: Option<u32>, gid: Option<u32>) -> Result<Option<Ids>, ConfigError> {
    match (uid, gid) {
        (None, None) => Ok(None),
        (None, Some(_)) => Err(error("ZLH_AGENT_GID", "is set without ZLH_AGENT_UID")),
        (Some(0), _) => Err(error("ZLH_AGENT_UID", "is 0: the workload never runs as root")),
        (Some(uid), gid) => Ok(Some(Ids { uid, gid: gid.unwrap_or(uid) })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(more: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut vars = vec![("ZLH_AGENT_VMID", "6001"), ("ZLH_AGENT_TOKEN", "secret")];
        vars.extend_from_slice(more);
        Config::from_vars(|name| {
            vars.iter()
                .rev()
                .find(|(known, _)| *known == name)
                .map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn two_settings_are_enough() {
        let config = with(&[]).unwrap();

        assert_eq!(config.listen.to_string(), "0.0.0.0:18888");
        assert_eq!(config.root, Path::new("/"));
        assert_eq!(config.user, "dev");
        assert_eq!(config.ids, None);
        assert_eq!(config.code_server_listen, Listen::Tcp("0.0.0.0:6000".parse().unwrap()));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value) in [
            ("ZLH_AGENT_VMID", "007"),
            ("ZLH_AGENT_PORT", "70000"),
            ("ZLH_AGENT_LISTEN", "localhost"),
            ("ZLH_AGENT_ROOT", "relative"),
            ("ZLH_AGENT_ROOT", "/srv/../etc"),
            ("ZLH_AGENT_UID", "0"),
            ("ZLH_AGENT_UID", "dev"),
            ("ZLH_AGENT_GID", "5"),
            ("ZLH_AGENT_USER", "-rf"),
            ("ZLH_CODE_SERVER_LISTEN", "unix:relative"),
            ("ZLH_CODE_SERVER_LISTEN", "unix:/ide.sock"),
            ("ZLH_CODE_SERVER_ARGS", "{listen} {nonsense}"),
            ("ZLH_LOG_FORMAT", "xml"),
        ] {
            let error = with(&[(name, value)]).expect_err(value);
            assert_eq!(error.variable, name, "{value}");
        }
        let long = format!("unix:/run/{}/ide.sock", "x".repeat(100));
        assert!(with(&[("ZLH_CODE_SERVER_LISTEN", &long)]).is_err());
    }

    #[test]
    fn a_port_alone_keeps_the_address() {
        assert_eq!(with(&[("ZLH_AGENT_PORT", "7")]).unwrap().listen.to_string(), "0.0.0.0:7");
    }

    #[test]
    fn the_token_is_not_printed() {
        assert!(!format!("{:?}", with(&[]).unwrap()).contains("secret\""));
        assert!(with(&[("ZLH_AGENT_TOKEN_FILE", "/run/token")]).is_err());
        assert!(with(&[("ZLH_AGENT_TOKEN", "")]).is_err());
    }

    #[test]
    fn the_root_has_one_spelling() {
        assert_eq!(
            with(&[("ZLH_AGENT_ROOT", "/srv//6001/")]).unwrap().root.to_str(),
            Some("/srv/6001")
        );
    }
}
