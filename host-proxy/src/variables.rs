//! What components are told: the Spin variables that spin.toml declares.

use std::collections::BTreeMap;

use zlh_authn::token::TokenKind;

use crate::app::url;
use crate::config::{Config, PublicScheme};
use crate::secrets::Secrets;

/// Where the listeners are that components are told of.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The artifact store.
    pub artifact_url: String,
    /// Port of the public listener, where there is one.
    pub public_port: Option<u16>,
    /// The agent gateway, where components are to go through it.
    pub gateway_url: Option<String>,
}

impl Surroundings {
    /// As the settings have them: for what listens in another process.
    #[must_use]
    pub fn configured(config: &Config, public_port: Option<u16>) -> Self {
        let artifact_url = config.artifact_url.clone();
        let gateway_url = config.gateway_url.clone();
        Self {
            artifact_url: artifact_url.unwrap_or_else(|| url(config.artifact_listen)),
            public_port,
            gateway_url: gateway_url.or_else(|| config.gateway_listen.map(url)),
        }
    }
}

/// Variables for the components.
#[must_use]
pub fn component_variables(
    config: &Config,
    secrets: &Secrets,
    surroundings: &Surroundings,
) -> BTreeMap<String, String> {
    let ports = config.node.ports;
    let streams = [TokenKind::DevIde, TokenKind::Console, TokenKind::Upload, TokenKind::Codex];
    let mut variables: BTreeMap<String, String> = [
        ("token_public_keys", secrets.public_keys()),
        ("access_signing_keys", secrets.signing_keys(&[TokenKind::Access])),
        ("stream_signing_keys", secrets.signing_keys(&streams)),
        ("agent_token_secret", secrets.agent_secret.clone()),
        // Spin leaves the end of a port range out.
        (
            "agents_network",
            format!("http://127.0.0.1:{}..{}", ports.first, u32::from(ports.last) + 1),
        ),
        ("artifact_base_url", surroundings.artifact_url.clone()),
        ("port_range", format!("{}-{}", ports.first, ports.last)),
        ("dev_ide_host_suffix", public_suffix(config, surroundings.public_port)),
        ("dev_ide_public_scheme", config.ide.scheme.as_str().to_owned()),
        ("dev_ide_return_hosted_url", config.ide.return_hosted_url.to_string()),
        ("api_auth_ttl_seconds", config.tokens.access_ttl_seconds.to_string()),
        ("api_auth_ide_ttl_seconds", config.tokens.ide_ttl_seconds.to_string()),
        ("allowed_origins", config.tokens.allowed_origins.clone()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect();
    if let Some(database) = &config.database {
        variables.insert("database_url".to_owned(), database.url.clone());
        variables.insert("database_host".to_owned(), database.allowed_host.clone());
    }
    let told = config.variables.get("agent_gateway_url");
    if let Some(url) = told.or(surroundings.gateway_url.as_ref()).filter(|url| !url.is_empty()) {
        // They have another way, and nothing that an agent would accept.
        variables.insert("agents_network".to_owned(), String::new());
        variables.insert("agent_token_secret".to_owned(), String::new());
        variables.insert("agent_gateway_url".to_owned(), url.clone());
        variables.insert("gateway_signing_keys".to_owned(), secrets.gateway_signing_keys());
    }
    variables.extend(config.variables.clone());
    variables
}

/// The suffix as it stands in URLs. With `https` something in front of us listens, at 443 unless told.
fn public_suffix(config: &Config, public_port: Option<u16>) -> String {
    let suffix = &config.ide.suffix;
    let port = suffix.port().or(match config.ide.scheme {
        PublicScheme::Http => public_port,
        PublicScheme::Https => None,
    });
    match port.filter(|port| *port != config.ide.scheme.default_port()) {
        Some(port) => format!("{}:{port}", suffix.name()),
        None => suffix.name().to_owned(),
    }
}
