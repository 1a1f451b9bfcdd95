//! Connections to PostgreSQL, lent to handles and kept for the next one.
//!
//! A handle has one connection for as long as it lives, so a transaction belongs to it, as on Spin. Unlike
//! there, one that the handle leaves open is rolled back at once: otherwise its locks would be held until
//! somebody else happened to be lent the same connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use deadpool_postgres::{
    ClientWrapper, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use tokio::time::{Instant, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::target::{self, Names};
use crate::component_host::capability::bindings::spin::postgres::postgres::Error;
use crate::component_host::capability::outbound_http::AllowList;

/// Connections to one address; PostgreSQL takes 100 in all unless told otherwise.
const MAX_CONNECTIONS: usize = 32;
/// Addresses whose connections are kept.
const MAX_POOLS: usize = 16;
/// How long making a connection may take, where the address does not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a server may leave what was sent to it unacknowledged before it counts as gone.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a handle waits for a connection that others use, or that is being made.
const WAIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long clearing up after a handle may take before the connection is given up.
const RESET_TIMEOUT: Duration = Duration::from_secs(5);
/// Leaves nothing of a handle but its prepared statements.
const RESET: &str = "ROLLBACK; CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
    SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// Everything that tells one pool from another.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    address: String,
    ca_root: Option<String>,
    /// What the names in `address` stand for, as far as the component may reach it.
    hosts: Vec<IpAddr>,
}

struct Entry {
    pool: Pool,
    tls: Option<MakeRustlsConnect>,
    used: Instant,
}

/// All connections of this host.
#[derive(Default)]
pub(crate) struct Pools {
    pools: Mutex<HashMap<Key, Entry>>,
    names: Names,
}

impl Pools {
    /// Takes a connection to `address`, of which `allowed` decides what may be reached.
    pub(super) async fn lend(
        &self,
        allowed: &AllowList,
        address: &str,
        ca_root: Option<String>,
    ) -> Result<Lease, Error> {
        let mut config: Config = address.parse().map_err(failed)?;
        let hosts = target::pin(&mut config, allowed, &self.names).await?;
        let (pool, tls) = self.pool(Key { address: address.to_owned(), ca_root, hosts }, config)?;
        let client = pool.get().await.map_err(failed)?;
        Ok(Lease { client: Some(client), tls, running: AtomicUsize::new(0) })
    }

    fn pool(&self, key: Key, config: Config) -> Result<(Pool, Option<MakeRustlsConnect>), Error> {
        let mut pools = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = pools.get_mut(&key) {
            entry.used = Instant::now();
            return Ok((entry.pool.clone(), entry.tls.clone()));
        }
        let (pool, tls) = create(config, key.ca_root.as_deref())?;
        if pools.len() >= MAX_POOLS {
            let oldest = pools.iter().min_by_key(|(_, entry)| entry.used);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                pools.remove(&oldest);
            }
        }
        let entry = Entry { pool: pool.clone(), tls: tls.clone(), used: Instant::now() };
        pools.insert(key, entry);
        Ok((pool, tls))
    }
}

fn create(
    mut config: Config,
    ca_root: Option<&str>,
) -> Result<(Pool, Option<MakeRustlsConnect>), Error> {
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(CONNECT_TIMEOUT);
    }
    if config.get_tcp_user_timeout().is_none() {
        config.tcp_user_timeout(SILENCE_TIMEOUT);
    }
    // `Lease` clears up after its handle, so that nothing is left to do when the connection is lent again.
    let manager_config = ManagerConfig { recycling_method: RecyclingMethod::Fast };
    let (manager, tls) = if config.get_ssl_mode() == SslMode::Disable {
        (Manager::from_config(config, NoTls, manager_config), None)
    } else {
        let tls = MakeRustlsConnect::new(tls_config(ca_root).map_err(failed)?);
        (Manager::from_config(config, tls.clone(), manager_config), Some(tls))
    };
    let pool = Pool::builder(manager)
        .max_size(MAX_CONNECTIONS)
        .wait_timeout(Some(WAIT_TIMEOUT))
        .create_timeout(Some(WAIT_TIMEOUT))
        .runtime(Runtime::Tokio1)
        .build()
        .map_err(failed)?;
    Ok((pool, tls))
}

/// A connection of its own, made as those of guests are, to whatever the address names.
pub(crate) async fn connect(address: &str) -> Result<Object, Error> {
    let (pool, _) = create(address.parse().map_err(failed)?, None)?;
    pool.get().await.map_err(failed)
}

/// Whether the text is certificates in PEM.
pub(super) fn check_ca_root(certificates: &str) -> Result<(), String> {
    tls_config(Some(certificates)).map(drop).map_err(|error| error.to_string())
}

/// Certificates are checked against the public roots, and against the guest's where it has one.
fn tls_config(ca_root: Option<&str>) -> Result<ClientConfig, Box<dyn std::error::Error>> {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.into() };
    if let Some(text) = ca_root {
        let mut certificates = CertificateDer::pem_slice_iter(text.as_bytes()).peekable();
        if certificates.peek().is_none() {
            return Err("there is no certificate in it".into());
        }
        for certificate in certificates {
            roots.add(certificate?)?;
        }
    }
    // Named, because a process with two providers has no default one.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

/// Says the whole chain: a driver's own message is often only "error connecting to server".
fn failed(error: impl Into<Box<dyn std::error::Error>>) -> Error {
    let error = error.into();
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    Error::ConnectionFailed(
        causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}")),
    )
}

/// A connection in the hands of one handle.
pub(super) struct Lease {
    /// Taken only by `drop`.
    client: Option<Object>,
    tls: Option<MakeRustlsConnect>,
    /// Statements that the server may still be working on.
    running: AtomicUsize,
}

impl Lease {
    pub(super) fn client(&self) -> Result<&ClientWrapper, Error> {
        self.client.as_deref().ok_or_else(|| Error::ConnectionFailed("no connection".into()))
    }

    /// A statement begins. One whose future is dropped counts as running from then on.
    pub(super) fn begin(&self) {
        self.running.fetch_add(1, Ordering::Relaxed);
    }

    /// A statement ended, if `over`.
    pub(super) fn end_if(&self, over: bool) {
        if over {
            self.running.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(client) = self.client.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            // Nobody can clear up any more.
            drop(Object::take(client));
            return;
        };
        let tls = self.tls.take();
        if self.running.load(Ordering::Relaxed) > 0 {
            runtime.spawn(cancel(client, tls));
        } else {
            runtime.spawn(give_back(client));
        }
    }
}

/// Clears up and returns the connection to its pool; or ends it, which rolls back as well.
async fn give_back(client: Object) {
    if !matches!(timeout(RESET_TIMEOUT, client.batch_execute(RESET)).await, Ok(Ok(()))) {
        drop(Object::take(client));
    }
}

/// Ends the connection and what the server still does for it.
async fn cancel(client: Object, tls: Option<MakeRustlsConnect>) {
    let token = client.cancel_token();
    let cancelled = async {
        match tls {
            Some(tls) => token.cancel_query(tls).await,
            None => token.cancel_query(NoTls).await,
        }
    };
    // Where it cannot be cancelled, the server finds the connection closed when it next writes to it.
    let _ = timeout(RESET_TIMEOUT, cancelled).await;
    drop(Object::take(client));
}
