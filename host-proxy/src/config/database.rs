//! The address of a PostgreSQL database.

use std::fmt;

use tokio_postgres::config::{Config, Host};

/// A URL of PostgreSQL with one host. It holds a password, so it is not shown.
#[derive(Clone)]
pub struct DatabaseUrl {
    /// As it was given.
    pub url: String,
    /// Its host and port, as an entry of `allowed_outbound_hosts`.
    pub allowed_host: String,
}

impl DatabaseUrl {
    /// What one looks like.
    pub(super) const FORM: &str =
        "a URL of one PostgreSQL server such as `postgres://user:password@host:5432/zlh`";

    /// None where it is no URL, or names several hosts or none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if !text.starts_with("postgres://") && !text.starts_with("postgresql://") {
            return None;
        }
        let config: Config = text.parse().ok()?;
        let ([Host::Tcp(host)], []) = (config.get_hosts(), config.get_hostaddrs()) else {
            return None;
        };
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let allowed_host = format!("postgres://{host}:{port}");
        Some(Self { url: text.to_owned(), allowed_host })
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({})", self.allowed_host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_which_host_components_may_reach() {
        let host = |text| DatabaseUrl::parse(text).map(|url| url.allowed_host);

        assert_eq!(
            host("postgres://u:p@db.example/zlh").as_deref(),
            Some("postgres://db.example:5432")
        );
        assert_eq!(
            host("postgresql://u@127.0.0.1:6000/d").as_deref(),
            Some("postgres://127.0.0.1:6000")
        );
        assert_eq!(host("postgres://u@[::1]:1/d").as_deref(), Some("postgres://[::1]:1"));
        for wrong in [
            "",
            "mysql://h/d",
            "host=h",
            "postgres:///d",
            "postgres://a,b/d",
            "postgres://%2Frun/d",
        ] {
            assert_eq!(host(wrong), None, "{wrong}");
        }
        let shown = format!("{:?}", DatabaseUrl::parse("postgres://u:secret@h/d"));
        assert!(!shown.contains("secret"), "{shown}");
    }
}
