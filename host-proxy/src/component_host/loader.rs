//! Turns stanzas into dispatchers: composes, compiles, grants and links.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, format_err};
use wasmtime_wasi_http::handler::{HandlerState as _, ProxyPre};

use super::HostError;
use super::cache::Cache;
use super::capability::outbound_http::{AllowList, Connections, Outbound};
use super::capability::{self, key_value, sqlite};
use super::component_files::{Digest, Files};
use super::compose::{self, Composed};
use super::dispatch::{Dispatcher, Instances};
use super::engine::{self, Ticker};
use super::limits::Limits;
use super::linker::{self, Grants, Guest};
use super::manifest::{App, ManifestError};
use super::sources::Sources;
use super::variables::Variables;
use crate::body::BoxError;

/// What all components share.
pub(super) struct Loader {
    pub(super) app: App,
    /// Of each stanza that has a route.
    grants: BTreeMap<String, Grants>,
    limits: Arc<Limits>,
    engine: Engine,
    linker: Linker<Guest>,
    pub(super) cache: Cache,
    pub(super) files: Arc<Files>,
    ticker: Arc<Ticker>,
    slots: Arc<Semaphore>,
    pub(super) workers: TaskTracker,
    pub(super) stop: CancellationToken,
    connections: Arc<Connections>,
    databases: Arc<sqlite::Databases>,
    key_value: Arc<key_value::Database>,
}

/// A component that serves.
pub(super) struct Loaded {
    pub(super) dispatcher: Dispatcher,
    /// What it was composed of: stanzas, or names of files, and digests.
    pub(super) parts: BTreeSet<(String, Digest)>,
    /// Ends when this and every instance of it are gone.
    pub(super) drained: TaskTracker,
    _serving: TaskTrackerToken,
}

/// A component that could serve.
pub(super) struct Linked {
    instances: Instances,
    parts: BTreeSet<(String, Digest)>,
}

impl Linked {
    /// Makes one instance and drops it: what fails at its start fails here.
    pub(super) async fn warm(&self) -> wasmtime::Result<()> {
        timeout(self.instances.limits.request_timeout, self.instances.instantiate())
            .await
            .map_err(|_| format_err!("it did not start within the request timeout"))?
            .map(drop)
    }

    pub(super) fn serve(self) -> Loaded {
        let Self { instances, parts } = self;
        let drained = instances.drained.clone();
        let limits = Arc::clone(&instances.limits);
        let component = Arc::clone(&instances.component);
        Loaded {
            dispatcher: Dispatcher::new(component, instances, limits),
            parts,
            _serving: drained.token(),
            drained,
        }
    }
}

impl Loader {
    pub(super) fn start(
        manifest: &Path,
        app: App,
        variables: &Variables,
        state_dir: &Path,
        limits: Limits,
    ) -> Result<Self, HostError> {
        let engine_error = |error: wasmtime::Error| HostError::Engine(error.into_boxed_dyn_error());
        let state =
            |name: &str, source: BoxError| HostError::State { path: state_dir.join(name), source };

        let cache =
            Cache::open(state_dir.join("compiled")).map_err(|e| state("compiled", e.into()))?;
        let files =
            Files::open(state_dir.join("components")).map_err(|e| state("components", e.into()))?;
        let file = "sqlite_key_value.db";
        let path = private_file(state_dir.join(file)).map_err(|e| state(file, e.into()))?;
        let key_value = key_value::Database::open(&path).map_err(|e| state(file, e.into()))?;
        let file = "sqlite_db.db";
        let path = private_file(state_dir.join(file)).map_err(|e| state(file, e.into()))?;
        let database = sqlite::Pool::open(path).map_err(|e| state(file, e.into()))?;

        let engine = engine::create(&limits).map_err(engine_error)?;
        let ticker = Ticker::start(&engine, limits.epoch_tick)
            .map_err(|error| HostError::Engine(error.into()))?;
        let mut loader = Self {
            app,
            grants: BTreeMap::new(),
            linker: linker::create(&engine).map_err(engine_error)?,
            engine,
            cache,
            files: Arc::new(files),
            ticker: Arc::new(ticker),
            slots: Arc::new(Semaphore::new(limits.max_instances as usize)),
            limits: Arc::new(limits),
            workers: TaskTracker::new(),
            stop: CancellationToken::new(),
            connections: Connections::new().map_err(|error| HostError::Engine(error.into()))?,
            databases: Arc::new([("default".to_owned(), Arc::new(database))].into()),
            key_value: Arc::new(key_value),
        };
        let grants = loader.routed().into_iter().map(|id| {
            let grants = loader.grant(&id, variables)?;
            Ok((id, grants))
        });
        loader.grants = grants
            .collect::<Result<_, _>>()
            .map_err(|source| HostError::Manifest { path: manifest.to_owned(), source })?;
        Ok(loader)
    }

    /// Stanzas that have a route.
    pub(super) fn routed(&self) -> BTreeSet<String> {
        self.app.routes.iter().map(|route| route.component.clone()).collect()
    }

    /// Puts a component and its dependencies together. Blocks.
    pub(super) fn compose(&self, sources: &Sources, id: &str) -> Result<Composed, HostError> {
        compose::compose(&self.app, sources, id)
            .map_err(|source| HostError::Compose { component: id.to_owned(), source })
    }

    /// Compiles a composed component and links what its stanza grants. Blocks, for long if this code has
    /// not been compiled before.
    pub(super) fn link(&self, id: &str, composed: Composed) -> Result<Linked, HostError> {
        let failed = |error: wasmtime::Error| HostError::Component {
            component: id.to_owned(),
            source: error.into_boxed_dyn_error(),
        };
        let grants =
            self.grants.get(id).cloned().ok_or_else(|| failed(format_err!("it has no route")))?;
        let component = self.cache.component(&self.engine, &composed.wasm).map_err(failed)?;
        let instances = Instances {
            component: id.into(),
            engine: self.engine.clone(),
            pre: self.instantiate_pre(&component).map_err(failed)?,
            grants,
            limits: Arc::clone(&self.limits),
            slots: Arc::clone(&self.slots),
            ticker: Arc::clone(&self.ticker),
            workers: self.workers.clone(),
            drained: TaskTracker::new(),
            stop: self.stop.clone(),
        };
        Ok(Linked { instances, parts: composed.parts })
    }

    fn grant(&self, id: &str, variables: &Variables) -> Result<Grants, ManifestError> {
        let key = format!("component.{id}");
        let component = self
            .app
            .components
            .get(id)
            .ok_or_else(|| ManifestError::invalid(&key, "is missing"))?;
        let values = component
            .variables
            .iter()
            .map(|(name, template)| {
                let key = format!("{key}.variables.{name}");
                Ok((name.clone(), variables.expand(&key, template)?))
            })
            .collect::<Result<BTreeMap<_, _>, ManifestError>>()?;
        let key = format!("{key}.allowed_outbound_hosts");
        let hosts = component
            .allowed_outbound_hosts
            .iter()
            .map(|template| variables.expand(&key, template))
            .collect::<Result<Vec<_>, _>>()?;
        let allowed =
            AllowList::parse(&hosts).map_err(|reason| ManifestError::invalid(key, reason))?;
        Ok(Grants {
            environment: Arc::new(component.environment.clone()),
            key_value: key_value::Access {
                database: Arc::clone(&self.key_value),
                granted: Arc::new(component.key_value_stores.clone()),
            },
            outbound: Outbound {
                component: id.into(),
                allowed: Arc::new(allowed),
                connections: Arc::clone(&self.connections),
            },
            sqlite: sqlite::Access {
                databases: Arc::clone(&self.databases),
                granted: Arc::new(component.sqlite_databases.clone()),
            },
            variables: capability::variables::Variables(Arc::new(values)),
        })
    }

    fn instantiate_pre(&self, component: &Component) -> wasmtime::Result<ProxyPre<Guest>> {
        use wasmtime_wasi_http::{p2, p3};

        let pre = self.linker.instantiate_pre(component)?;
        let exports = component.component_type();
        let p2 = exports
            .exports(&self.engine)
            .any(|(name, _)| name.starts_with("wasi:http/incoming-handler@0.2."));
        if p2 {
            p2::bindings::ProxyPre::new(pre).map(ProxyPre::P2)
        } else {
            p3::bindings::ServicePre::new(pre).map(ProxyPre::P3)
        }
    }
}

/// Creates a file that only its owner reads, unless it is there. SQLite gives the files that it puts
/// beside a database the permissions of the database.
fn private_file(path: PathBuf) -> std::io::Result<PathBuf> {
    std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(&path)?;
    Ok(path)
}
