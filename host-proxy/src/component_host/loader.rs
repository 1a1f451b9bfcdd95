//! Turns stanzas into dispatchers: composes, compiles, grants and links.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::path::Path;
use std::sync::Arc;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use wasmtime::component::{Component, Linker};
use wasmtime::{Engine, format_err};
use wasmtime_wasi_http::handler::{HandlerState as _, ProxyPre};

use super::cache::Cache;
use super::capability::outbound_http::{AllowList, Chain, Connections, Outbound};
use super::capability::{self, key_value, postgres, sqlite};
use super::component_files::{Digest, Files};
use super::compose::{self, Composed};
use super::deny;
use super::dispatch::{Dispatcher, Instances};
use super::engine::{self, Ticker};
use super::limits::Limits;
use super::linker::{self, Grants, Guest};
use super::manifest::{App, ManifestError, Target};
use super::metrics::ComponentMetrics;
use super::processor::{Processors, Share};
use super::slots::{Room, Slots};
use super::sources::Sources;
use super::stores::Stores;
use super::variables::Variables;
use super::{HostError, files};
use crate::body::BoxError;

/// What all components share.
pub(super) struct Loader {
    pub(super) app: App,
    /// Of each stanza that has a route.
    grants: BTreeMap<String, Grants>,
    /// What each of those may use, old and new instances of a swap together.
    shares: BTreeMap<String, (Slots, Share)>,
    pub(super) chain: Chain,
    limits: Limits,
    engine: Engine,
    linker: Linker<Guest>,
    pub(super) metrics: ComponentMetrics,
    pub(super) cache: Cache,
    pub(super) files: Arc<Files>,
    ticker: Arc<Ticker>,
    pub(super) workers: TaskTracker,
    pub(super) stop: CancellationToken,
    connections: Arc<Connections>,
    stores: Stores,
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
        stores: Stores,
        limits: Limits,
    ) -> Result<Self, HostError> {
        let engine_error = |error: wasmtime::Error| HostError::Engine(error.into_boxed_dyn_error());
        let state =
            |name: &str, source: BoxError| HostError::State { path: state_dir.join(name), source };

        let cache =
            Cache::open(state_dir.join("compiled")).map_err(|e| state("compiled", e.into()))?;
        let files =
            Files::open(state_dir.join("components")).map_err(|e| state("components", e.into()))?;

        let memory = app.components.values().map(|c| limits.of(&c.limits).memory_bytes).max();
        let memory = memory.map_or(limits.memory_bytes, |most| most.max(limits.memory_bytes));
        let engine = engine::create(&limits, memory).map_err(engine_error)?;
        let ticker = Ticker::start(&engine, limits.epoch_tick)
            .map_err(|error| HostError::Engine(error.into()))?;
        let mut loader = Self {
            app,
            grants: BTreeMap::new(),
            shares: BTreeMap::new(),
            chain: Chain::default(),
            linker: linker::create(&engine).map_err(engine_error)?,
            engine,
            metrics: ComponentMetrics::default(),
            cache,
            files: Arc::new(files),
            ticker: Arc::new(ticker),
            limits,
            workers: TaskTracker::new(),
            stop: CancellationToken::new(),
            connections: Connections::new().map_err(|error| HostError::Engine(error.into()))?,
            stores,
        };
        let wrong = |source| HostError::Manifest { path: manifest.to_owned(), source };
        let folder = manifest.parent().unwrap_or(Path::new(""));
        let routed = loader.routed();
        let room = Room::new(loader.limits.max_instances as usize, routed.len());
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
        let processors = Processors::new(threads);
        for id in routed {
            let mut grants = loader.grant(&id, variables).map_err(wrong)?;
            grants.files = loader.mount(&id, folder, &state_dir.join("files"))?;
            loader.grants.insert(id.clone(), grants);
            loader.shares.insert(id, (room.slots(), processors.share()));
        }
        Ok(loader)
    }

    /// What a stanza with a route may call.
    pub(super) fn allowed(&self, id: &str) -> Option<&AllowList> {
        self.grants.get(id).map(|grants| &*grants.outbound.allowed)
    }

    /// Stanzas that have a route.
    pub(super) fn routed(&self) -> BTreeSet<String> {
        let targets = self.app.routes.iter().filter_map(|route| match &route.target {
            Target::Component(id) => Some(id.clone()),
            Target::Static(_) => None,
        });
        targets.collect()
    }

    /// Puts the files of a component into a folder of its own.
    fn mount(
        &self,
        id: &str,
        manifest: &Path,
        mounts: &Path,
    ) -> Result<Option<Arc<Path>>, HostError> {
        let component = self.app.components.get(id).filter(|component| !component.files.is_empty());
        let Some(component) = component else { return Ok(None) };
        let folder = mounts.join(id);
        files::assemble(component, manifest, &folder)
            .map_err(|source| HostError::Files { component: id.to_owned(), source })?;
        Ok(Some(folder.into()))
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
        let (slots, processors) =
            self.shares.get(id).cloned().ok_or_else(|| failed(format_err!("it has no route")))?;
        let limits = match self.app.components.get(id) {
            Some(component) => self.limits.of(&component.limits),
            None => self.limits.clone(),
        };
        let component = self.cache.component(&self.engine, &composed.wasm).map_err(failed)?;
        let instances = Instances {
            component: id.into(),
            engine: self.engine.clone(),
            pre: self.instantiate_pre(&component).map_err(failed)?,
            counters: self.metrics.of(id),
            grants,
            limits: Arc::new(limits),
            slots,
            processors,
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
        self.stores.check(&key, component)?;
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
        let allowed = Arc::new(allowed);
        Ok(Grants {
            environment: Arc::new(component.environment.clone()),
            files: None,
            key_value: key_value::Access {
                stores: Arc::clone(&self.stores.key_value),
                granted: Arc::new(component.key_value_stores.clone()),
            },
            postgres: postgres::Access {
                allowed: Arc::clone(&allowed),
                pools: Arc::clone(&self.stores.postgres),
            },
            outbound: Outbound {
                component: id.into(),
                allowed,
                connections: Arc::clone(&self.connections),
                chain: self.chain.clone(),
            },
            sqlite: sqlite::Access {
                databases: Arc::clone(&self.stores.sqlite),
                granted: Arc::new(component.sqlite_databases.clone()),
            },
            variables: capability::variables::Variables(Arc::new(values)),
        })
    }

    fn instantiate_pre(&self, component: &Component) -> wasmtime::Result<ProxyPre<Guest>> {
        use wasmtime_wasi_http::{p2, p3};

        let mut linker = self.linker.clone();
        deny::add_to_linker(&mut linker, &self.engine, component)?;
        let pre = linker.instantiate_pre(component)?;
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
