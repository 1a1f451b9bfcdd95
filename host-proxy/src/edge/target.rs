//! Reads the request target and the `Host` header, each in exactly one way.

use http::HeaderMap;
use http::header::HOST;
use percent_encoding::percent_decode_str;

/// A `Host` header: a name or address, perhaps with a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    text: String,
    name: String,
}

impl Authority {
    /// As the client wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Without the port, in lower case.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, after) = rest.split_once(']')?;
                address.parse::<std::net::Ipv6Addr>().ok()?;
                let port = match after.strip_prefix(':') {
                    Some(port) => Some(port),
                    None if after.is_empty() => None,
                    None => return None,
                };
                (text.get(..address.len() + 2)?, port)
            }
            None => match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            },
        };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let well_formed = !name.is_empty()
            && name.len() <= 255
            && (name.starts_with('[') || name.bytes().all(plain));
        let port_fits = match port {
            Some(port) => {
                port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
            }
            None => true,
        };
        (well_formed && port_fits)
            .then(|| Self { text: text.to_owned(), name: name.to_ascii_lowercase() })
    }
}

/// The one `Host` header (RFC 9112 section 3.2).
///
/// # Errors
///
/// It is missing, there are several, or it is no host.
pub fn authority(headers: &HeaderMap) -> Result<Authority, &'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => {
            host.to_str().ok().and_then(Authority::parse).ok_or("the Host header is malformed")
        }
        (None, _) => Err("the Host header is missing"),
        (Some(_), Some(_)) => Err("there is more than one Host header"),
    }
}

/// Whether every parser reads the path the same way: no empty, `.` or `..` segment and no encoded
/// separator, backslash or control character, so that what is decided on is what is forwarded.
#[must_use]
pub fn is_unambiguous(path: &str) -> bool {
    let Some(rest) = path.strip_prefix('/') else { return false };
    let last = rest.split('/').count() - 1;
    rest.split('/').enumerate().all(|(index, segment)| {
        if segment.is_empty() {
            return index == last;
        }
        let decoded: Vec<u8> = percent_decode_str(segment).collect();
        has_whole_escapes(segment)
            && decoded != b"."
            && decoded != b".."
            && !decoded.iter().any(|byte| matches!(byte, b'/' | b'\\' | 0x7f) || *byte < 0x20)
    })
}

/// Whether the path is only for calls between our own programs, however it is spelt.
#[must_use]
pub fn is_private(path: &str) -> bool {
    let mut segments =
        path.split('/').skip(1).map(|segment| percent_decode_str(segment).collect::<Vec<u8>>());
    let first = segments.next().unwrap_or_default();
    let second = segments.next().unwrap_or_default();
    first.eq_ignore_ascii_case(b"internal")
        || (first.eq_ignore_ascii_case(b".well-known") && second.eq_ignore_ascii_case(b"spin"))
}

fn has_whole_escapes(segment: &str) -> bool {
    segment.split('%').skip(1).all(|after| {
        let digits = after.as_bytes();
        matches!(digits, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn hosts(values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (HOST, HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn a_host_is_a_name_or_address_with_or_without_a_port() {
        for (host, name) in [
            ("zlh.example", "zlh.example"),
            ("ZLH.Example:8080", "zlh.example"),
            ("127.0.0.1:1", "127.0.0.1"),
            ("[::1]:8080", "[::1]"),
            ("[::1]", "[::1]"),
        ] {
            assert_eq!(authority(&hosts(&[host])).unwrap().name(), name);
        }
    }

    #[test]
    fn a_host_that_is_missing_doubled_or_malformed_is_refused() {
        assert!(authority(&hosts(&[])).is_err());
        assert!(authority(&hosts(&["a", "a"])).is_err());
        for host in
            ["", "a b", "a:", "user@a", "a:b", "a:80:80", "a:99999", "[::1", "[x]", "a/b", "a,b"]
        {
            assert!(authority(&hosts(&[host])).is_err(), "accepted {host:?}");
        }
    }

    #[test]
    fn a_path_that_can_be_read_in_two_ways_is_refused() {
        for path in ["/", "/api/health", "/api/health/", "/a%20b", "/caf%C3%A9", "/...", "/a/.b"] {
            assert!(is_unambiguous(path), "refused {path:?}");
        }
        for path in [
            "",
            "*",
            "//",
            "//internal/agents",
            "/a//b",
            "/a/../internal",
            "/a/%2e%2E/internal",
            "/./internal",
            "/a%2finternal",
            "/a%2Finternal",
            "/a%5cb",
            "/a\\b",
            "/a%00",
            "/a%0d%0ab",
            "/a%7f",
            "/a%",
            "/a%4",
            "/a%zz",
        ] {
            assert!(!is_unambiguous(path), "accepted {path:?}");
        }
    }

    #[test]
    fn private_paths_are_private_in_every_spelling() {
        for path in
            ["/internal", "/internal/", "/internal/agents", "/%69nternal/agents", "/INTERNAL/x"]
        {
            assert!(is_private(path), "let {path:?} through");
        }
        assert!(is_private("/.well-known/spin/info"));
        for path in ["/", "/internals", "/api/internal", "/.well-known/jwks.json"] {
            assert!(!is_private(path), "held {path:?} back");
        }
    }
}
