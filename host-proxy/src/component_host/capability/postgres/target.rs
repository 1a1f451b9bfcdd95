//! Which servers an address stands for: `allowed_outbound_hosts` decides by name before anything is resolved
//! and by address after it, and connections go to the very addresses that were checked.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::component_host::capability::bindings::spin::postgres::postgres::Error;
use crate::component_host::capability::outbound_http::AllowList;

/// As written in `allowed_outbound_hosts`.
const SCHEME: &str = "postgres";
const DEFAULT_PORT: u16 = 5432;
/// How long a name is not looked up again: every request opens a handle.
const NAME_TTL: Duration = Duration::from_secs(5);
const MAX_NAMES: usize = 64;
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);

/// Sets the addresses that `config` connects to, and returns them. Its names stay, for certificates.
pub(super) async fn pin(
    config: &mut Config,
    allowed: &AllowList,
    names: &Names,
) -> Result<Vec<IpAddr>, Error> {
    let (hosts, ports) = (config.get_hosts().to_vec(), config.get_ports().to_vec());
    let given = config.get_hostaddrs().to_vec();
    if hosts.is_empty() || (!given.is_empty() && given.len() != hosts.len()) {
        return Err(failed("an address needs a `host`, and as many `hostaddr` as hosts or none"));
    }
    let mut pinned = Vec::new();
    for (index, host) in hosts.iter().enumerate() {
        let Host::Tcp(host) = host else {
            return Err(failed("Unix sockets are not supported on WebAssembly"));
        };
        let port = match ports.as_slice() {
            [] => DEFAULT_PORT,
            [port] => *port,
            ports => *ports.get(index).ok_or_else(|| failed("a host has no port"))?,
        };
        // Where a guest says what a name stands for, only that address counts.
        let (name, addresses) = match given.get(index) {
            Some(address) => (address.to_string(), vec![*address]),
            None if allowed.may_resolve(SCHEME, host, port) => {
                (host.clone(), names.resolve(host).await?)
            }
            None => return Err(denied(host, port)),
        };
        let before = pinned.len();
        let may = |address: &IpAddr| allowed.allows(SCHEME, &name, port, *address);
        pinned
            .extend(addresses.into_iter().filter(may).map(|address| (host.clone(), port, address)));
        if pinned.len() == before {
            return Err(denied(host, port));
        }
    }
    if given.is_empty() {
        spell_out(config, &hosts, &ports, &pinned);
    }
    Ok(pinned.into_iter().map(|(.., address)| address).collect())
}

/// Writes one host, port and address for each of `pinned`. The first of each name takes the place that the
/// name has already, for a configuration only grows.
fn spell_out(config: &mut Config, hosts: &[Host], ports: &[u16], pinned: &[(String, u16, IpAddr)]) {
    let mut rest = pinned.to_vec();
    for host in hosts {
        let first = rest.iter().position(|(name, ..)| *host == Host::Tcp(name.clone()));
        if let Some(first) = first {
            config.hostaddr(rest.remove(first).2);
        }
    }
    for (host, port, address) in rest {
        config.host(host).hostaddr(address);
        if ports.len() > 1 {
            config.port(port);
        }
    }
}

fn failed(text: &str) -> Error {
    Error::ConnectionFailed(text.to_owned())
}

fn denied(host: &str, port: u16) -> Error {
    tracing::warn!(
        "connection to postgres://{host}:{port} denied: not in `allowed_outbound_hosts`"
    );
    Error::ConnectionFailed(format!("address postgres://{host}:{port} is not permitted"))
}

/// Names that were looked up, and when.
#[derive(Default)]
pub(super) struct Names(Mutex<HashMap<String, (Instant, Vec<IpAddr>)>>);

impl Names {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, Error> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        if let Some(addresses) = self.known(host) {
            return Ok(addresses);
        }
        let mut addresses: Vec<IpAddr> =
            match timeout(LOOKUP_TIMEOUT, tokio::net::lookup_host((host, 0))).await {
                Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
                Ok(Err(error)) => return Err(failed(&format!("cannot resolve `{host}`: {error}"))),
                Err(_) => return Err(failed(&format!("resolving `{host}` took too long"))),
            };
        // Answers come in any order, and each order would be a pool of its own.
        addresses.sort_unstable();
        addresses.dedup();
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        names.insert(host.to_owned(), (Instant::now(), addresses.clone()));
        Ok(addresses)
    }

    fn known(&self, host: &str) -> Option<Vec<IpAddr>> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, addresses) = names.get(host)?;
        (at.elapsed() < NAME_TTL).then(|| addresses.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn pinned(address: &str, entry: &str) -> Result<(Config, Vec<IpAddr>), String> {
        let mut config: Config = address.parse().unwrap();
        let allowed = AllowList::parse(&[entry.to_owned()]).unwrap();
        match pin(&mut config, &allowed, &Names::default()).await {
            Ok(addresses) => Ok((config, addresses)),
            Err(Error::ConnectionFailed(text)) => Err(text),
            Err(other) => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn an_address_is_allowed_by_scheme_host_and_port() {
        let address = "postgres://u:p@127.0.0.1:5433/d";

        assert!(pinned(address, "postgres://127.0.0.1:5433").await.is_ok());
        for entry in ["postgres://127.0.0.1", "http://127.0.0.1:5433", "postgres://127.0.0.2:5433"]
        {
            let refused = pinned(address, entry).await.unwrap_err();
            assert_eq!(refused, "address postgres://127.0.0.1:5433 is not permitted", "{entry}");
        }
        assert!(pinned("host=127.0.0.1", "postgres://127.0.0.1").await.is_ok());
    }

    #[tokio::test]
    async fn a_name_becomes_the_addresses_that_were_checked() {
        let (config, addresses) =
            pinned("postgres://localhost:1/d", "postgres://127.0.0.0/8:1").await.unwrap();

        assert_eq!(addresses, [IpAddr::from([127, 0, 0, 1])]);
        assert_eq!(config.get_hostaddrs(), addresses);
        assert_eq!(config.get_hosts(), [Host::Tcp("localhost".into())]);
    }

    #[tokio::test]
    async fn a_guest_cannot_say_what_an_allowed_name_stands_for() {
        let address = "host=db.example hostaddr=192.0.2.1";

        assert!(pinned(address, "postgres://db.example").await.is_err());
        assert!(pinned(address, "postgres://192.0.2.1").await.is_ok());
        assert!(pinned("hostaddr=192.0.2.1", "postgres://db.example").await.is_err());
        assert!(pinned("host=/run/postgresql", "*://*:*").await.is_err());
    }

    #[test]
    fn every_address_of_every_name_has_its_host_and_port() {
        let mut config: Config = "host=a,b port=1,2".parse().unwrap();
        let (hosts, ports) = (config.get_hosts().to_vec(), config.get_ports().to_vec());
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let pinned =
            [("a", 1, 1), ("a", 1, 2), ("b", 2, 3)].map(|(n, p, a)| (n.to_owned(), p, address(a)));

        spell_out(&mut config, &hosts, &ports, &pinned);

        let names = ["a", "b", "a"].map(|name| Host::Tcp(name.into()));
        assert_eq!(config.get_hosts(), names);
        assert_eq!(config.get_ports(), [1, 2, 1]);
        assert_eq!(config.get_hostaddrs(), [1, 3, 2].map(address));
    }
}
