//! The `allowed_outbound_hosts` of one component.
//!
//! An entry is `scheme://host[:port]`, as in Spin: the host is a name, `*`, `*.domain`, an address or a
//! CIDR block; the port a number, `first..end` (without `end`) or `*`. Unlike Spin's, an address or a
//! block also matches a name that resolves into it.

use std::net::IpAddr;
use std::ops::RangeInclusive;

use ipnet::IpNet;

/// Parsed entries.
#[derive(Debug, Default)]
pub(crate) struct AllowList(Vec<Entry>);

#[derive(Debug)]
struct Entry {
    /// `None` is any.
    scheme: Option<String>,
    host: Host,
    ports: RangeInclusive<u16>,
}

#[derive(Debug, PartialEq)]
enum Host {
    Any,
    Name(String),
    /// The application's own routes: `self` or `self.alt`.
    Itself,
    /// Every name below a domain, which is kept with its leading dot.
    Below(String),
    Block(IpNet),
}

impl AllowList {
    /// Parses entries whose templates are expanded. One that came out empty is skipped, as Spin does.
    ///
    /// # Errors
    ///
    /// A sentence about the first entry that is wrong.
    pub(crate) fn parse(entries: &[String]) -> Result<Self, String> {
        entries
            .iter()
            .filter(|entry| !matches!(entry.as_str(), "" | "http://" | "https://"))
            .map(|entry| Entry::parse(entry).map_err(|reason| format!("`{entry}`: {reason}")))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Whether some address of `host` could be allowed, so that it is worth resolving.
    pub(crate) fn may_resolve(&self, scheme: &str, host: &str, port: u16) -> bool {
        let literal = literal(host);
        self.matching(scheme, port).any(|entry| match (&entry.host, literal) {
            (Host::Block(block), Some(address)) => block.contains(&address),
            (Host::Block(_), None) => true,
            (other, _) => other.matches_name(host),
        })
    }

    /// Whether a connection to `address`, to which `host` resolved, is allowed.
    pub(crate) fn allows(&self, scheme: &str, host: &str, port: u16, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.matching(scheme, port).any(|entry| match &entry.host {
            Host::Block(block) => block.contains(&address),
            other => other.matches_name(host),
        })
    }

    /// Whether a name that is never resolved may be called: that of another component.
    pub(super) fn allows_name(&self, scheme: &str, host: &str, port: u16) -> bool {
        self.matching(scheme, port).any(|entry| entry.host.matches_name(host))
    }

    /// Whether the application's own routes may be called, whatever their scheme and port.
    pub(super) fn allows_self(&self) -> bool {
        self.0.iter().any(|entry| {
            matches!(entry.scheme.as_deref(), None | Some("http" | "https"))
                && matches!(entry.host, Host::Any | Host::Itself)
        })
    }

    /// Whether anything may be called over HTTP.
    pub(crate) fn allows_http(&self) -> bool {
        let is_http = |scheme: &str| matches!(scheme, "http" | "https");
        self.0.iter().any(|entry| entry.scheme.as_deref().is_none_or(is_http))
    }

    fn matching(&self, scheme: &str, port: u16) -> impl Iterator<Item = &Entry> {
        self.0.iter().filter(move |entry| {
            entry.scheme.as_deref().is_none_or(|s| s == scheme) && entry.ports.contains(&port)
        })
    }
}

impl Host {
    fn matches_name(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        match self {
            Self::Any => true,
            Self::Name(name) => *name == host,
            Self::Below(domain) => host.len() > domain.len() && host.ends_with(domain.as_str()),
            Self::Block(_) | Self::Itself => false,
        }
    }

    fn parse(host: &str) -> Result<Self, String> {
        let host = host.to_ascii_lowercase();
        if host.contains(['{', '}', ',']) {
            return Err("lists are not allowed, write one entry each".into());
        }
        if host == "self" || host == "self.alt" {
            return Ok(Self::Itself);
        }
        let unbracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(&host);
        if let Ok(block) = unbracketed.parse::<IpNet>() {
            return Ok(Self::Block(block.trunc()));
        }
        if let Some(address) = literal(&host) {
            return Ok(Self::Block(address.into()));
        }
        match host.strip_prefix('*') {
            Some("") => Ok(Self::Any),
            Some(domain)
                if domain.len() > 1 && domain.starts_with('.') && !domain.contains('*') =>
            {
                Ok(Self::Below(domain.to_owned()))
            }
            None if is_name(&host) => Ok(Self::Name(host)),
            _ => {
                Err("the host is neither a name, `*`, `*.domain`, an address nor a CIDR block"
                    .into())
            }
        }
    }
}

impl Entry {
    fn parse(entry: &str) -> Result<Self, String> {
        let (scheme, rest) = entry.split_once("://").ok_or("an entry is `scheme://host[:port]`")?;
        let scheme = match scheme {
            "*" => None,
            word if !word.is_empty()
                && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '+') =>
            {
                Some(word.to_ascii_lowercase())
            }
            _ => return Err("the scheme is neither a word nor `*`".into()),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let (host, port) = split_port(rest);
        let ports = match port {
            None => default_port(scheme.as_deref())?,
            Some("*") => 0..=u16::MAX,
            Some(port) => parse_ports(port)?,
        };
        Ok(Self { scheme, host: Host::parse(host)?, ports })
    }
}

/// Splits `host[:port]`, where a colon inside brackets belongs to the host.
fn split_port(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (text, None),
    }
}

fn parse_ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let number = |text: &str| text.parse::<u16>().map_err(|_| format!("`{text}` is not a port"));
    match text.split_once("..") {
        None => number(text).map(|port| port..=port),
        Some((first, end)) => {
            let (first, end) = (number(first)?, number(end)?);
            match end.checked_sub(1) {
                Some(last) if last >= first => Ok(first..=last),
                _ => Err(format!("the port range `{text}` is empty")),
            }
        }
    }
}

fn default_port(scheme: Option<&str>) -> Result<RangeInclusive<u16>, String> {
    let port = match scheme {
        Some("http") => 80,
        Some("https") => 443,
        Some("mqtt") => 1883,
        Some("mysql") => 3306,
        Some("postgres") => 5432,
        Some("redis") => 6379,
        _ => return Err("this scheme has no default port, write `:port` or `:*`".into()),
    };
    Ok(port..=port)
}

/// An address that is written out, with or without brackets.
fn literal(host: &str) -> Option<IpAddr> {
    let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
    host.parse().ok().map(|address: IpAddr| address.to_canonical())
}

fn is_name(host: &str) -> bool {
    !host.is_empty()
        && host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entry: &str) -> AllowList {
        AllowList::parse(&[entry.to_owned()]).unwrap()
    }

    fn allows(entry: &str, scheme: &str, host: &str, port: u16, address: &str) -> bool {
        let list = list(entry);
        let allows = list.allows(scheme, host, port, address.parse().unwrap());
        assert!(!allows || list.may_resolve(scheme, host, port), "allowed, so worth resolving");
        allows
    }

    #[test]
    fn an_exact_entry_allows_one_name_scheme_and_port() {
        let entry = "http://Example.com:8080";

        assert!(allows(entry, "http", "example.COM", 8080, "192.0.2.1"));
        assert!(allows(entry, "http", "example.com.", 8080, "192.0.2.1"));
        assert!(!allows(entry, "https", "example.com", 8080, "192.0.2.1"));
        assert!(!allows(entry, "http", "example.com", 80, "192.0.2.1"));
        assert!(!allows(entry, "http", "a.example.com", 8080, "192.0.2.1"));
        assert!(!list(entry).may_resolve("http", "other.com", 8080));
    }

    #[test]
    fn ports_are_a_default_a_range_without_its_end_or_all() {
        assert!(allows("https://a.b", "https", "a.b", 443, "192.0.2.1"));
        assert!(!allows("https://a.b", "https", "a.b", 80, "192.0.2.1"));
        assert!(allows("http://a.b:10..12", "http", "a.b", 11, "192.0.2.1"));
        assert!(!allows("http://a.b:10..12", "http", "a.b", 12, "192.0.2.1"));
        assert!(!allows("http://a.b:10..12", "http", "a.b", 9, "192.0.2.1"));
        assert!(allows("http://a.b:*", "http", "a.b", 1, "192.0.2.1"));
    }

    #[test]
    fn stars_stand_for_any_scheme_any_host_and_any_name_below_a_domain() {
        assert!(allows("*://*:*", "https", "a.b", 1, "::1"));
        assert!(allows("*://*:*", "http", "127.0.0.1", 1, "127.0.0.1"));
        assert!(allows("http://*.b.c", "http", "x.a.b.c", 80, "192.0.2.1"));
        assert!(!allows("http://*.b.c", "http", "b.c", 80, "192.0.2.1"));
        assert!(!allows("http://*.b.c", "http", "evil-b.c", 80, "192.0.2.1"));
    }

    #[test]
    fn a_block_allows_literals_and_names_that_resolve_into_it() {
        let entry = "http://10.0.0.0/8:*";

        assert!(allows(entry, "http", "10.1.2.3", 80, "10.1.2.3"));
        assert!(allows(entry, "http", "agent.lan", 80, "10.1.2.3"));
        assert!(!allows(entry, "http", "agent.lan", 80, "192.0.2.1"));
        assert!(!list(entry).may_resolve("http", "192.0.2.1", 80));
        assert!(allows("http://[fd00::/8]:*", "http", "[fd00::1]", 80, "fd00::1"));
        assert!(allows("http://127.0.0.1", "http", "localhost", 80, "127.0.0.1"));
    }

    #[test]
    fn an_ipv4_address_is_the_same_when_mapped_into_ipv6() {
        assert!(allows("http://10.0.0.0/8", "http", "[::ffff:10.0.0.1]", 80, "::ffff:10.0.0.1"));
        assert!(allows("http://[::ffff:10.0.0.1]", "http", "10.0.0.1", 80, "10.0.0.1"));
        assert!(!allows("http://10.0.0.0/8", "http", "[::ffff:192.0.2.1]", 80, "::ffff:192.0.2.1"));
    }

    #[test]
    fn entries_that_came_out_empty_are_skipped() {
        let entries = ["", "http://", "https://"].map(str::to_owned);

        let list = AllowList::parse(&entries).unwrap();

        assert!(list.0.is_empty());
    }

    #[test]
    fn other_components_are_allowed_by_name_and_the_application_by_self() {
        let one = list("http://x.spin.internal");
        let all = list("https://*.spin.internal");
        let itself = list("http://self");

        assert!(one.allows_name("http", "x.spin.internal", 80));
        assert!(!one.allows_name("http", "y.spin.internal", 80));
        assert!(!one.allows_self());
        assert!(all.allows_name("https", "y.spin.internal", 443));
        assert!(!all.allows_name("http", "y.spin.internal", 80));
        assert!(itself.allows_self());
        assert!(!itself.allows_name("http", "self", 80));
        assert!(!list("redis://self:1").allows_self());
        assert!(list("*://*:*").allows_self());
    }

    #[test]
    fn a_wrong_entry_is_named() {
        for entry in [
            "example.com",
            "http://a.b/path",
            "http://a.b:99999",
            "http://a.b:9..9",
            "foo://a.b",
            "http://{a,b}.c",
            "http://*a.b",
            "http://a b",
            "insecure:allow-all",
        ] {
            let error = AllowList::parse(&[entry.to_owned()]).unwrap_err();
            assert!(error.starts_with(&format!("`{entry}`: ")), "{error}");
        }
    }
}
