//! Which container a host name stands for: `dev-<vmid>.<suffix>`, matched as a whole.

use zlh_ids::Vmid;

use crate::config::PublicScheme;

/// What IDE hosts end in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostSuffix {
    name: String,
    port: Option<u16>,
}

/// What a host name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostKind {
    /// The IDE of one container.
    Ide(Vmid),
    /// Below the suffix, but no container's name.
    NoContainer,
    /// Not below the suffix.
    Other,
}

impl HostSuffix {
    /// `ide.localhost`, which browsers resolve to loopback (RFC 6761 section 6.3).
    #[must_use]
    pub fn local() -> Self {
        Self { name: "ide.localhost".to_owned(), port: None }
    }

    /// A host name, perhaps with the port that browsers see.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.split_once(':') {
            Some((name, port)) => (name, Some(port.parse().ok().filter(|port| *port != 0)?)),
            None => (text, None),
        };
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        (name.len() <= 200 && name.split('.').all(label))
            .then(|| Self { name: name.to_ascii_lowercase(), port })
    }

    /// Without the port.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port that browsers see, if it was set.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// What a host name, in lower case and without port, stands for.
    #[must_use]
    pub fn classify(&self, host: &str) -> HostKind {
        // A final dot names the same host to a resolver, but another origin to a browser.
        let rooted = host.trim_end_matches('.');
        let Some(before) = rooted.strip_suffix(self.name.as_str()) else { return HostKind::Other };
        if !before.is_empty() && !before.ends_with('.') {
            return HostKind::Other;
        }
        let vmid = before
            .strip_suffix('.')
            .filter(|_| rooted == host)
            .and_then(|label| label.strip_prefix("dev-"))
            .and_then(|vmid| vmid.parse().ok());
        vmid.map_or(HostKind::NoContainer, HostKind::Ide)
    }
}

/// Scheme and host as browsers write them in `Origin`.
pub(super) fn browser_origin(scheme: PublicScheme, host: &str) -> String {
    format!("{}://{host}", scheme.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_canonical_name_of_a_container_is_one() {
        let suffix = HostSuffix::parse("IDE.example:8443").unwrap();
        let vmid = |number| HostKind::Ide(Vmid::new(number).unwrap());

        for (host, kind) in [
            ("dev-6001.ide.example", vmid(6001)),
            ("dev-7.ide.example", vmid(7)),
            ("dev-007.ide.example", HostKind::NoContainer),
            ("dev-+7.ide.example", HostKind::NoContainer),
            ("dev-7.evil.ide.example", HostKind::NoContainer),
            ("dev-.ide.example", HostKind::NoContainer),
            ("dev-7x.ide.example", HostKind::NoContainer),
            ("xdev-7.ide.example", HostKind::NoContainer),
            ("6001.ide.example", HostKind::NoContainer),
            ("dev-7.ide.example.", HostKind::NoContainer),
            ("dev-7..ide.example", HostKind::NoContainer),
            ("ide.example", HostKind::NoContainer),
            (".ide.example", HostKind::NoContainer),
            ("dev-7.ide.example.evil", HostKind::Other),
            ("dev-7xide.example", HostKind::Other),
            ("example", HostKind::Other),
            ("127.0.0.1", HostKind::Other),
        ] {
            assert_eq!(suffix.classify(host), kind, "{host}");
        }
    }

    #[test]
    fn a_suffix_is_a_host_name_with_or_without_a_port() {
        assert_eq!(HostSuffix::parse("ide.localhost:8080").unwrap().port(), Some(8080));
        for text in
            ["", ".", ".a", "a.", "a..b", "-a", "a-", "a/b", "a:0", "a:x", "a:1:2", "a b", "*.a"]
        {
            assert!(HostSuffix::parse(text).is_none(), "accepted {text:?}");
        }
    }
}
