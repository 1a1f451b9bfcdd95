//! Settings: flags and environment in, one typed value or one sentence that names the setting out.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::component_host::{AllowListOptions, is_key};
use crate::edge::client::TrustedProxies;
use crate::ide_proxy::host::HostSuffix;

mod component_variables;
mod database;
mod env;
mod source;

pub use database::DatabaseUrl;
pub(crate) use env::variable;
pub use env::{Environment, LogSettings, TraceSettings, process_environment};
use source::Source;
pub use source::{ConfigError, Flags};

/// Everything that `zlh` can be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// `--data-dir`, `ZLH_DATA_DIR`: folder of everything that lasts; default `.zlh`.
    pub data_dir: PathBuf,
    /// `--manifest`, `ZLH_MANIFEST`: Spin manifest of the components; default `spin.toml`.
    pub manifest: PathBuf,
    /// `--runtime-config`, `ZLH_RUNTIME_CONFIG`: stores, databases and providers of variables in Spin's format;
    /// default none: everything is in the data folder.
    pub runtime_config: Option<PathBuf>,
    /// `ZLH_DATABASE_URL`: PostgreSQL in place of SQLite; default none.
    pub database: Option<DatabaseUrl>,
    /// `--artifacts`, `ZLH_ARTIFACTS`: folder of runtimes and code-server; default `artifacts`.
    pub artifacts: PathBuf,
    /// `--listen`, `ZLH_LISTEN` (or only a `PORT`): the public listener; default `127.0.0.1:8080`.
    pub listen: SocketAddr,
    /// `--ide-listen`, `ZLH_IDE_LISTEN`: IDEs below `/__ide/`, away from the portal's origin, or `off`. All of
    /// them share that origin, so the default is `off` as long as token routes answer hosted URLs, and
    /// `127.0.0.1:8081` when they do not.
    pub ide_listen: Option<SocketAddr>,
    /// `--admin-listen`, `ZLH_ADMIN_LISTEN`: health and metrics, private; default `127.0.0.1:8082`.
    pub admin_listen: SocketAddr,
    /// The same where it was said and not left at its default: `zlh components` has a private listener only
    /// then, since `zlh proxy` beside it takes the default, and `zlh component` asks there.
    pub components_admin_listen: Option<SocketAddr>,
    /// `--artifact-listen`, `ZLH_ARTIFACT_LISTEN`: where agents fetch artifacts; default `127.0.0.1:8083`.
    pub artifact_listen: SocketAddr,
    /// `ZLH_ARTIFACT_URL`: what agents are told; default the address of the artifact listener.
    pub artifact_url: Option<String>,
    /// `--gateway-listen`, `ZLH_GATEWAY_LISTEN`: the way to agents for components and host-proxies that cannot
    /// reach their network, private, or `off`; default `off`.
    pub gateway_listen: Option<SocketAddr>,
    /// `ZLH_GATEWAY_URL`: what those are told; default the address of the gateway's listener.
    pub gateway_url: Option<String>,
    /// How browsers reach IDEs.
    pub ide: IdeSettings,
    /// What components are told about tokens and origins.
    pub tokens: TokenSettings,
    /// This machine as a place for containers.
    pub node: NodeSettings,
    /// `ZLH_POLL_INTERVAL_SECONDS`: between two looks at every agent; default 5, as the originals had it.
    pub poll_interval: Duration,
    /// `ZLH_BOOTSTRAP_EMAIL`: address of the first operator; default `admin@zlh.localhost`.
    pub bootstrap_email: String,
    /// `ZLH_BOOTSTRAP_PASSWORD`: password of the first operator; generated and shown once when absent.
    pub bootstrap_password: Option<Secret>,
    /// Bounds of the listeners.
    pub limits: EdgeLimits,
    /// `ZLH_TRUSTED_PROXIES`: addresses and networks, separated by commas, of proxies in front of us: what they say
    /// in `X-Forwarded-For` is who asks; default none.
    pub trusted_proxies: TrustedProxies,
    /// `ZLH_COMPONENT_ALLOW_LIST`: signed list of the component files that may run, and
    /// `ZLH_COMPONENT_ALLOW_LIST_KEY`: the minisign public key that it is signed for; default none: all may.
    pub component_allow_list: Option<AllowListOptions>,
    /// `SPIN_VARIABLE_*`: variables of components, stronger than what `zlh` would give them.
    pub variables: BTreeMap<String, String>,
}

/// How browsers reach IDEs.
#[derive(Debug, Clone)]
pub struct IdeSettings {
    /// `DEV_IDE_HOST_SUFFIX`: `dev-<vmid>.` and this is an IDE's host; default `ide.localhost`, which
    /// browsers resolve to loopback. May carry the port that browsers see.
    pub suffix: HostSuffix,
    /// `DEV_IDE_PUBLIC_SCHEME`: `http`, or `https` when something in front of us speaks TLS; default `http`.
    pub scheme: PublicScheme,
    /// `DEV_IDE_RETURN_HOSTED_URL`: token route answers `dev-<vmid>.` URLs; default true.
    pub return_hosted_url: bool,
    /// `ZLH_IDE_PUBLIC_URL`: where browsers reach the IDE listener; default the host they asked and its port.
    pub public_url: Option<String>,
}

/// Scheme that browsers see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublicScheme {
    /// No TLS; for loopback and tests.
    Http,
    /// TLS ends in front of us.
    Https,
}

impl PublicScheme {
    /// As in a URL.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that URLs leave out.
    #[must_use]
    pub fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// What components are told about tokens and origins.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// `API_AUTH_TTL_SECONDS`: life of access tokens in seconds; default 3600.
    pub access_ttl_seconds: u32,
    /// `API_AUTH_IDE_TTL_SECONDS`: life of IDE tokens in seconds; default 300, as they travel in a URL.
    pub ide_ttl_seconds: u32,
    /// `ZLH_ALLOWED_ORIGINS`: comma-separated origins that may load the portal; default none.
    pub allowed_origins: String,
}

/// This machine as a place for containers.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// `ZLH_AGENT_BINARY`: the agent; default `zlh-agent` beside this program.
    pub agent_binary: PathBuf,
    /// `ZLH_PORT_RANGE`: ports for containers, first and last; default `50000-50999`.
    pub ports: PortRange,
    /// `ZLH_AGENT_DEADLINE_SECONDS`: from start to the agent's first answer; default 20, it needs about one.
    pub agent_deadline: Duration,
    /// `ZLH_READY_DEADLINE_SECONDS`: from configuration to readiness; default 600: runtimes are hundreds of
    /// megabytes.
    pub ready_deadline: Duration,
    /// `ZLH_ORPHAN_GRACE_SECONDS`: how long a container that no instance knows is left alone; default 20.
    pub orphan_grace: Duration,
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// Lowest port.
    pub first: u16,
    /// Highest port.
    pub last: u16,
}

/// Bounds of the listeners.
#[derive(Debug, Clone, Copy)]
pub struct EdgeLimits {
    /// `ZLH_MAX_CONNECTIONS`: open connections per listener; default 8192, below common descriptor limits.
    pub max_connections: usize,
    /// `ZLH_MAX_BODY_BYTES`: request body that components are given; default 8 MiB, bodies are JSON.
    pub max_body_bytes: u64,
    /// `ZLH_MAX_IDE_STREAMS`: open WebSockets per container; default 128, a window needs two.
    pub max_ide_streams: usize,
    /// `ZLH_DRAIN_SECONDS`: how long requests may take to end after a stop; default 10.
    pub drain: Duration,
    /// `ZLH_DRAIN_DELAY_SECONDS`: how long `/readyz` says no before a stop, for load balancers to notice;
    /// default 0, for there may be none.
    pub drain_delay: Duration,
}

/// Text that must not be logged.
#[derive(Clone)]
pub struct Secret(pub String);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl Config {
    /// Reads every setting. Flags win over the environment.
    ///
    /// # Errors
    ///
    /// The first setting that is wrong, by name.
    pub fn from_vars(
        flags: &Flags,
        environment: &Environment,
        var: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConfigError> {
        let source = Source { flags, var: &var };
        component_variables::check(&environment.variables)?;
        let ide = ide_settings(&source)?;
        source.parse("ZLH_NODE_DRIVER", (), "`local`", |text| (text == "local").then_some(()))?;

        Ok(Self {
            data_dir: source.path("ZLH_DATA_DIR", ".zlh")?,
            manifest: source.path("ZLH_MANIFEST", "spin.toml")?,
            runtime_config: source.parse("ZLH_RUNTIME_CONFIG", None, "a path", |text| {
                (!text.is_empty()).then(|| Some(PathBuf::from(text)))
            })?,
            database: source.parse("ZLH_DATABASE_URL", None, DatabaseUrl::FORM, |text| {
                DatabaseUrl::parse(text).map(Some)
            })?,
            artifacts: source.path("ZLH_ARTIFACTS", "artifacts")?,
            listen: public_listener(&source)?,
            ide_listen: ide_listener(&source, &ide)?,
            admin_listen: source.address("ZLH_ADMIN_LISTEN", 8082)?,
            components_admin_listen: source.parse(
                "ZLH_ADMIN_LISTEN",
                None,
                "an IP address and port such as `127.0.0.1:8080`",
                |text| text.parse().ok().map(Some),
            )?,
            artifact_listen: source.address("ZLH_ARTIFACT_LISTEN", 8083)?,
            artifact_url: source.url("ZLH_ARTIFACT_URL")?,
            gateway_listen: source.parse(
                "ZLH_GATEWAY_LISTEN",
                None,
                "an IP address and port such as `10.0.0.2:8084`, or `off`",
                |text| match text {
                    "off" => Some(None),
                    text => text.parse().ok().map(Some),
                },
            )?,
            gateway_url: source.parse(
                "ZLH_GATEWAY_URL",
                None,
                "a URL such as `http://10.0.0.2:8084`, without TLS or a path",
                |text| gateway_url(text).map(Some),
            )?,
            ide,
            tokens: token_settings(&source)?,
            node: node_settings(&source, environment)?,
            poll_interval: source.seconds("ZLH_POLL_INTERVAL_SECONDS", 5, 1..=3600)?,
            bootstrap_email: source.parse(
                "ZLH_BOOTSTRAP_EMAIL",
                "admin@zlh.localhost".to_owned(),
                "an e-mail address",
                |text| (text.len() <= 254 && text.contains('@')).then(|| text.to_owned()),
            )?,
            bootstrap_password: source.parse(
                "ZLH_BOOTSTRAP_PASSWORD",
                None,
                "8 to 256 characters",
                |text| {
                    (8..=256).contains(&text.chars().count()).then(|| Some(Secret(text.to_owned())))
                },
            )?,
            limits: edge_limits(&source)?,
            trusted_proxies: source.parse(
                "ZLH_TRUSTED_PROXIES",
                TrustedProxies::default(),
                "comma-separated addresses and networks such as `10.0.0.0/8`",
                TrustedProxies::parse,
            )?,
            component_allow_list: component_allow_list(&source)?,
            variables: environment.variables.clone(),
        })
    }
}

/// What both a component may be allowed to call and another host-proxy can.
fn gateway_url(text: &str) -> Option<String> {
    let url = source::base_url(text)?;
    let authority = url.strip_prefix("http://")?;
    (!authority.contains('/')).then_some(url)
}

fn public_listener<F: Fn(&str) -> Option<String>>(
    source: &Source<'_, F>,
) -> Result<SocketAddr, ConfigError> {
    let port = source.parse("PORT", 8080, "a port number", |text| text.parse().ok())?;
    source.address("ZLH_LISTEN", port)
}

fn ide_listener<F: Fn(&str) -> Option<String>>(
    source: &Source<'_, F>,
    ide: &IdeSettings,
) -> Result<Option<SocketAddr>, ConfigError> {
    let tunnel_only = !ide.return_hosted_url;
    let default = tunnel_only.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, 8081)));
    // Somebody else may serve it.
    let needed = tunnel_only && ide.public_url.is_none();
    let want = match needed {
        true => {
            "an IP address and port such as `127.0.0.1:8081`, as `DEV_IDE_RETURN_HOSTED_URL` is `false`"
        }
        false => "an IP address and port such as `127.0.0.1:8081`, or `off`",
    };
    source.parse("ZLH_IDE_LISTEN", default, want, |text| match text {
        "off" => (!needed).then_some(None),
        text => text.parse().ok().map(Some),
    })
}

fn ide_settings<F: Fn(&str) -> Option<String>>(
    source: &Source<'_, F>,
) -> Result<IdeSettings, ConfigError> {
    let suffix = "a host name such as `ide.example.com`, with a port if browsers need one";
    Ok(IdeSettings {
        suffix: match source
            .parse("DEV_IDE_HOST_SUFFIX", None, suffix, |text| HostSuffix::parse(text).map(Some))?
        {
            Some(suffix) => suffix,
            None => HostSuffix::local(),
        },
        scheme: source.parse(
            "DEV_IDE_PUBLIC_SCHEME",
            PublicScheme::Http,
            "`http` or `https`",
            |text| match text {
                "http" => Some(PublicScheme::Http),
                "https" => Some(PublicScheme::Https),
                _ => None,
            },
        )?,
        return_hosted_url: source.parse(
            "DEV_IDE_RETURN_HOSTED_URL",
            true,
            "`true` or `false`",
            |text| match text {
                "true" | "1" => Some(true),
                "false" | "0" => Some(false),
                _ => None,
            },
        )?,
        public_url: source.url("ZLH_IDE_PUBLIC_URL")?,
    })
}

fn token_settings<F: Fn(&str) -> Option<String>>(
    source: &Source<'_, F>,
) -> Result<TokenSettings, ConfigError> {
    Ok(TokenSettings {
        access_ttl_seconds: source.number("API_AUTH_TTL_SECONDS", 3600, 60..=86_400)?,
        ide_ttl_seconds: source.number("API_AUTH_IDE_TTL_SECONDS", 300, 1..=3600)?,
        allowed_origins: source.parse(
            "ZLH_ALLOWED_ORIGINS",
            String::new(),
            "comma-separated origins such as `https://portal.example.com`",
            |text| text.split(',').all(|origin| is_origin(origin.trim())).then(|| text.to_owned()),
        )?,
    })
}

fn node_settings<F: Fn(&str) -> Option<String>>(
    source: &Source<'_, F>,
    environment: &Environment,
) -> Result<NodeSettings, ConfigError> {
    let beside = environment.program_folder.join("zlh-agent");
    Ok(NodeSettings {
        agent_binary: source.path("ZLH_AGENT_BINARY", &beside.to_string_lossy())?,
        ports: source.parse(
            "ZLH_PORT_RANGE",
            PortRange { first: 50_000, last: 50_999 },
            "a first and last port from 1024 to 65534 such as `50000-50999`",
            |text| {
                let (first, last) = text.split_once('-')?;
                let range = PortRange { first: first.parse().ok()?, last: last.parse().ok()? };
                // Spin writes a range of ports with its end left out, so the last port has a successor.
                (range.first >= 1024 && range.first <= range.last && range.last < u16::MAX)
                    .then_some(range)
            },
        )?,
        agent_deadline: source.seconds("ZLH_AGENT_DEADLINE_SECONDS", 20, 1..=3600)?,
        ready_deadline: source.seconds("ZLH_READY_DEADLINE_SECONDS", 600, 1..=86_400)?,
        orphan_grace: source.seconds("ZLH_ORPHAN_GRACE_SECONDS", 20, 1..=86_400)?,
    })
}

fn edge_limits<F: Fn(&str) -> Option<String>>(
    source: &Source<'_, F>,
) -> Result<EdgeLimits, ConfigError> {
    Ok(EdgeLimits {
        max_connections: source.number("ZLH_MAX_CONNECTIONS", 8192, 1..=1_000_000)?,
        max_body_bytes: source.number("ZLH_MAX_BODY_BYTES", 8 << 20, 1..=1 << 30)?,
        max_ide_streams: source.number("ZLH_MAX_IDE_STREAMS", 128, 1..=100_000)?,
        drain: source.seconds("ZLH_DRAIN_SECONDS", 10, 0..=3600)?,
        drain_delay: source.seconds("ZLH_DRAIN_DELAY_SECONDS", 0, 0..=3600)?,
    })
}

/// A list without a key would allow whatever the list says.
fn component_allow_list<F: Fn(&str) -> Option<String>>(
    source: &Source<'_, F>,
) -> Result<Option<AllowListOptions>, ConfigError> {
    let path = source.parse("ZLH_COMPONENT_ALLOW_LIST", None, "a path", |text| {
        Some(Some(PathBuf::from(text)))
    })?;
    let setting = "ZLH_COMPONENT_ALLOW_LIST_KEY";
    let want = "the minisign public key of `ZLH_COMPONENT_ALLOW_LIST`, in base64";
    let key =
        source.parse(setting, None, want, |text| is_key(text).then(|| Some(text.to_owned())))?;
    match (path, key) {
        (None, _) => Ok(None),
        (Some(path), Some(key)) => Ok(Some(AllowListOptions { path, key })),
        (Some(_), None) => Err(ConfigError { setting: setting.to_owned(), want: want.to_owned() }),
    }
}

/// Scheme, host and perhaps port, and nothing after them (RFC 6454 section 6.2).
fn is_origin(text: &str) -> bool {
    text.parse::<http::Uri>().is_ok_and(|uri| {
        matches!(uri.scheme_str(), Some("http" | "https"))
            && uri.path() == "/"
            && uri.query().is_none()
            && !text.ends_with('/')
            && uri.authority().is_some_and(|authority| !authority.as_str().contains('@'))
    })
}

#[cfg(test)]
mod tests;
