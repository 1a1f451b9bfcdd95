//! The embedded Spin host: reads a `spin.toml` and serves its HTTP components.
//!
//! It promises that components built with spin-sdk 7 run unchanged: `wasi:http@0.3.0` (and 0.2) handlers
//! with `spin:variables`, `spin:key-value`, `spin:sqlite` and outbound HTTP, each held to what its stanza
//! grants. Everything that touches wasmtime's experimental p3 API stays in this module.

mod cache;
mod capability;
mod compose;
mod dispatch;
mod engine;
mod limits;
mod linker;
mod manifest;
mod routes;
mod variables;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{Request, Response, StatusCode, Uri, header};
use thiserror::Error;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use wasmtime::Engine;
use wasmtime::component::{Component, Linker};
use wasmtime_wasi_http::handler::ProxyPre;

use self::cache::Cache;
use self::capability::outbound_http::{AllowList, Connections, Outbound};
use self::capability::{key_value, sqlite};
use self::dispatch::{Dispatcher, Instances, Refusal};
use self::engine::Ticker;
use self::linker::{Grants, Guest};
use self::manifest::App;
use self::routes::Routes;
use self::variables::Variables;
use crate::body::{Body, BoxError, empty, full};

pub use self::compose::ComposeError;
pub use self::limits::Limits;
pub use self::manifest::ManifestError;

/// What a host is started with.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The `spin.toml`; relative paths in it start at its folder.
    pub manifest: PathBuf,
    /// Folder of the databases and of compiled code, created if it is not there. Whoever can write to it
    /// can run code in this process.
    pub state_dir: PathBuf,
    /// Values of application variables by name, or by `SPIN_VARIABLE_<NAME>`; the former wins. Entries
    /// that the manifest does not declare are ignored.
    pub variables: BTreeMap<String, String>,
    /// What components may use.
    pub limits: Limits,
}

/// Where a request came from.
#[derive(Debug, Clone)]
pub struct RequestOrigin {
    /// The client, as far as the edge trusts what it was told.
    pub client: SocketAddr,
    /// What the client speaks.
    pub scheme: Scheme,
}

/// Why a host did not start.
#[derive(Debug, Error)]
pub enum HostError {
    /// The manifest is not there.
    #[error("cannot read the manifest {}", path.display())]
    ReadManifest {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The manifest says something that this host does not serve.
    #[error("the manifest {} cannot be served", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What it says.
        #[source]
        source: ManifestError,
    },
    /// A component's file is missing, or its dependencies do not fit.
    #[error("cannot compose component `{component}`")]
    Compose {
        /// Its stanza.
        component: String,
        /// Why not.
        #[source]
        source: ComposeError,
    },
    /// A component does not compile, or imports what this host does not serve.
    #[error("cannot load component `{component}`")]
    Component {
        /// Its stanza.
        component: String,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// A database or folder of the state folder is unusable.
    #[error("cannot open {} in the state folder", path.display())]
    State {
        /// What was opened.
        path: PathBuf,
        /// Why not.
        #[source]
        source: BoxError,
    },
    /// The engine, its clock or its TLS did not start.
    #[error("cannot start the component engine")]
    Engine(#[source] BoxError),
}

/// A loaded application.
pub struct ComponentHost {
    routes: Routes,
    dispatchers: BTreeMap<String, Dispatcher>,
    requests: TaskTracker,
    workers: TaskTracker,
    stop: CancellationToken,
}

impl ComponentHost {
    /// Reads the manifest, and compiles every routed component that has not been compiled before.
    ///
    /// # Errors
    ///
    /// A [`HostError`]; its sources name the file and the key that is wrong.
    pub async fn load(options: HostOptions) -> Result<Arc<Self>, HostError> {
        // Compiling takes the processor for long, and everything else here waits for the disk.
        let loaded = tokio::task::spawn_blocking(move || Self::load_blocking(options)).await;
        loaded.map_err(|error| HostError::Engine(error.into()))?.map(Arc::new)
    }

    fn load_blocking(options: HostOptions) -> Result<Self, HostError> {
        let path = options.manifest;
        let wrong = |source| HostError::Manifest { path: path.clone(), source };
        let text = std::fs::read_to_string(&path)
            .map_err(|source| HostError::ReadManifest { path: path.clone(), source })?;
        let mut app = App::parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(wrong)?;
        let variables = Variables::resolve(&app, &options.variables).map_err(wrong)?;
        let routed: BTreeSet<String> = app.routes.iter().map(|r| r.component.clone()).collect();
        let routes = Routes::new(std::mem::take(&mut app.routes)).map_err(wrong)?;

        let loader = Loader::start(&app, &options.state_dir, options.limits)?;
        let mut dispatchers = BTreeMap::new();
        for id in routed {
            let grants = loader.grants(&id, &variables).map_err(wrong)?;
            dispatchers.insert(id.clone(), loader.dispatcher(&id, grants)?);
        }
        let Loader { workers, stop, .. } = loader;
        Ok(Self { routes, dispatchers, requests: TaskTracker::new(), workers, stop })
    }

    /// Routes and runs one request. Errors become responses.
    ///
    /// When the future is dropped, the guest still runs until its response is ready.
    pub async fn handle(
        &self,
        mut request: Request<Body>,
        origin: RequestOrigin,
    ) -> Response<Body> {
        let tracked = self.requests.token();
        if self.requests.is_closed() {
            return Refusal::Busy.response();
        }
        if let Some(response) = well_known(request.uri().path()) {
            return response;
        }
        let Some(url) = full_url(&request, &origin.scheme) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let Some(matched) = self.routes.find(url.path()) else {
            return status(StatusCode::NOT_FOUND);
        };
        let Some(dispatcher) = self.dispatchers.get(matched.component) else {
            return status(StatusCode::NOT_FOUND);
        };
        routes::remove_host_headers(request.headers_mut());
        matched.add_headers(request.headers_mut(), &url, origin.client);
        *request.uri_mut() = url;
        dispatcher.run(request, tracked).await.unwrap_or_else(Refusal::response)
    }

    /// Components that have a route.
    #[must_use]
    pub fn component_names(&self) -> Vec<String> {
        self.dispatchers.keys().cloned().collect()
    }

    /// Refuses new requests, waits for those in flight to end, streams included, and drops all
    /// instances. May be called again, or be dropped and called again.
    pub async fn shutdown(&self) {
        self.requests.close();
        self.requests.wait().await;
        self.stop.cancel();
        self.workers.close();
        self.workers.wait().await;
    }
}

impl Drop for ComponentHost {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// What all components share while they are loaded.
struct Loader<'a> {
    app: &'a App,
    limits: Arc<Limits>,
    engine: Engine,
    linker: Linker<Guest>,
    cache: Cache,
    ticker: Arc<Ticker>,
    slots: Arc<Semaphore>,
    workers: TaskTracker,
    stop: CancellationToken,
    connections: Arc<Connections>,
    databases: Arc<sqlite::Databases>,
    key_value: Arc<key_value::Database>,
}

impl<'a> Loader<'a> {
    fn start(app: &'a App, state_dir: &Path, limits: Limits) -> Result<Self, HostError> {
        let engine_error = |error: wasmtime::Error| HostError::Engine(error.into_boxed_dyn_error());
        let state =
            |name: &str, source: BoxError| HostError::State { path: state_dir.join(name), source };

        let cache =
            Cache::open(state_dir.join("compiled")).map_err(|e| state("compiled", e.into()))?;
        let file = "sqlite_key_value.db";
        let path = private_file(state_dir.join(file)).map_err(|e| state(file, e.into()))?;
        let key_value = key_value::Database::open(&path).map_err(|e| state(file, e.into()))?;
        let file = "sqlite_db.db";
        let path = private_file(state_dir.join(file)).map_err(|e| state(file, e.into()))?;
        let database = sqlite::Pool::open(path).map_err(|e| state(file, e.into()))?;

        let engine = engine::create(&limits).map_err(engine_error)?;
        let ticker = Ticker::start(&engine, limits.epoch_tick)
            .map_err(|error| HostError::Engine(error.into()))?;
        Ok(Self {
            app,
            linker: linker::create(&engine).map_err(engine_error)?,
            engine,
            cache,
            ticker: Arc::new(ticker),
            slots: Arc::new(Semaphore::new(limits.max_instances as usize)),
            limits: Arc::new(limits),
            workers: TaskTracker::new(),
            stop: CancellationToken::new(),
            connections: Connections::new().map_err(|error| HostError::Engine(error.into()))?,
            databases: Arc::new([("default".to_owned(), Arc::new(database))].into()),
            key_value: Arc::new(key_value),
        })
    }

    fn grants(&self, id: &str, variables: &Variables) -> Result<Grants, ManifestError> {
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

    fn dispatcher(&self, id: &str, grants: Grants) -> Result<Dispatcher, HostError> {
        let failed = |error: wasmtime::Error| HostError::Component {
            component: id.to_owned(),
            source: error.into_boxed_dyn_error(),
        };
        let wasm = compose::compose(self.app, id)
            .map_err(|source| HostError::Compose { component: id.to_owned(), source })?;
        let component = self.cache.component(&self.engine, &wasm).map_err(failed)?;
        let component_id: Arc<str> = id.into();
        let instances = Instances {
            component: Arc::clone(&component_id),
            engine: self.engine.clone(),
            pre: self.link(&component).map_err(failed)?,
            grants,
            limits: Arc::clone(&self.limits),
            slots: Arc::clone(&self.slots),
            ticker: Arc::clone(&self.ticker),
            workers: self.workers.clone(),
            stop: self.stop.clone(),
        };
        Ok(Dispatcher::new(component_id, instances, Arc::clone(&self.limits)))
    }

    fn link(&self, component: &Component) -> wasmtime::Result<ProxyPre<Guest>> {
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

/// The URL that a guest sees: complete, and of one host. `None` if the request names none, or two.
fn full_url(request: &Request<Body>, scheme: &Scheme) -> Option<Uri> {
    let host = match request.headers().get(header::HOST) {
        Some(host) => Some(Authority::try_from(host.as_bytes()).ok()?),
        None => None,
    };
    let authority = match (request.uri().authority(), host) {
        (Some(authority), Some(host)) if *authority != host => return None,
        (Some(authority), _) => authority.clone(),
        (None, host) => host?,
    };
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(path).build().ok()
}

/// Paths that Spin answers itself, before any route.
fn well_known(path: &str) -> Option<Response<Body>> {
    match path.strip_prefix("/.well-known/spin/")? {
        "health" => Some(Response::new(full("OK"))),
        _ => Some(status(StatusCode::NOT_FOUND)),
    }
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
