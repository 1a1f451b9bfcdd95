//! Who is at the other end, where a proxy in front of us may say so.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Networks of proxies whose `X-Forwarded-For` counts.
#[derive(Debug, Clone, Default)]
pub struct TrustedProxies(Vec<IpNet>);

impl TrustedProxies {
    /// Addresses and networks, separated by commas.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let network = |text: &str| match text.parse() {
            Ok(network) => Some(network),
            Err(_) => text.parse::<IpAddr>().ok().map(IpNet::from),
        };
        text.split(',').map(|text| network(text.trim())).collect::<Option<_>>().map(Self)
    }

    /// The client: the peer itself, or what the nearest proxy that nobody vouches for was, as those that are
    /// trusted say one after the other. What a client claims stands left of that.
    pub(super) fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.trusts(peer.ip()) {
            return peer;
        }
        let said: Vec<&str> = headers
            .get_all(X_FORWARDED_FOR)
            .iter()
            .flat_map(|value| value.to_str().unwrap_or_default().split(','))
            .collect();
        let mut client = peer;
        for address in said.into_iter().rev() {
            let Ok(address) = address.trim().parse::<IpAddr>() else { break };
            client = SocketAddr::new(address, 0);
            if !self.trusts(address) {
                break;
            }
        }
        client
    }

    fn trusts(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(trusted: &str, peer: &str, said: &[&str]) -> String {
        let headers =
            said.iter().map(|said| (X_FORWARDED_FOR, said.parse().unwrap())).collect::<HeaderMap>();
        let peer = SocketAddr::new(peer.parse().unwrap(), 1234);
        TrustedProxies::parse(trusted).unwrap().client(peer, &headers).ip().to_string()
    }

    #[test]
    fn only_what_a_trusted_proxy_says_counts() {
        for (peer, said, expected) in [
            ("192.0.2.1", &["198.51.100.7"][..], "192.0.2.1"),
            ("10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("::ffff:10.0.0.1", &["198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["203.0.113.9", "198.51.100.7"], "198.51.100.7"),
            ("10.0.0.1", &["203.0.113.9, 198.51.100.7, 10.0.0.2"], "198.51.100.7"),
            ("10.0.0.1", &["198.51.100.7, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
        ] {
            assert_eq!(client("10.0.0.0/8, 2001:db8::1", peer, said), expected, "{peer} {said:?}");
        }
    }

    #[test]
    fn what_is_no_network_is_not_taken() {
        assert!(TrustedProxies::parse("10.0.0.0/8,").is_none());
        assert!(TrustedProxies::parse("proxy.internal").is_none());
    }
}
