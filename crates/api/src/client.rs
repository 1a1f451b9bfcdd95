//! Where a request comes from.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};

use axum::extract::FromRequestParts;
use http::header::{HeaderMap, HeaderName, USER_AGENT};
use http::request::Parts;

/// Set by the first `zlh` on the way, which removes what a client claims.
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// Longer names of programs are cut off.
const MAX_USER_AGENT_CHARS: usize = 256;

/// The other end of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Client {
    /// What one customer has of the network: an address of IPv4, and the first half of one of IPv6 (RFC 6177
    /// section 2). `None` where nobody says.
    pub network: Option<String>,
    /// What the program calls itself.
    pub user_agent: Option<String>,
}

impl Client {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        let address = text(X_FORWARDED_FOR)
            .and_then(|value| value.rsplit(',').next())
            .and_then(|address| address.trim().parse().ok());
        let user_agent =
            text(USER_AGENT).map(|name| name.chars().take(MAX_USER_AGENT_CHARS).collect());
        Self { network: address.map(network), user_agent }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers))
    }
}

fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{}/64", Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(pairs: &[(&'static str, &str)]) -> Client {
        let pair = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().unwrap())
        };
        Client::of(&pairs.iter().map(pair).collect())
    }

    #[test]
    fn addresses_that_one_customer_has_are_one_network() {
        for (address, network) in [
            ("192.0.2.1", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ] {
            assert_eq!(
                client(&[("x-forwarded-for", address)]).network.as_deref(),
                Some(network),
                "{address}"
            );
        }
    }

    #[test]
    fn the_nearest_proxy_is_believed() {
        let told = client(&[("x-forwarded-for", "198.51.100.7, 192.0.2.1")]);

        assert_eq!(told.network.as_deref(), Some("192.0.2.1"));
    }

    #[test]
    fn what_nobody_says_is_not_known() {
        let unknown = Client { network: None, user_agent: None };

        assert_eq!(client(&[]), unknown);
        assert_eq!(client(&[("x-forwarded-for", "somewhere")]), unknown);
    }
}
