//! The embedded Spin host: reads a `spin.toml` and serves its HTTP components.
//!
//! It promises that components built with spin-sdk 7 run unchanged: `wasi:http@0.3.0` (and 0.2) handlers
//! with `spin:variables`, `spin:key-value`, `spin:sqlite` and outbound HTTP, each held to what its stanza
//! grants. Everything that touches wasmtime's experimental p3 API stays in this module.

mod cache;
mod capability;
mod check;
mod choices;
mod component_files;
mod compose;
mod deny;
mod digest_list;
mod dispatch;
mod engine;
mod files;
mod limits;
mod linker;
mod loader;
mod manifest;
mod metrics;
pub(crate) mod probe;
mod processor;
mod routes;
mod runtime_config;
mod slots;
mod sources;
mod stores;
mod swap;
mod variables;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::uri::{Authority, Scheme};
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use thiserror::Error;
use tokio::sync::Mutex;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Instrument as _, field};

use self::capability::outbound_http::{Application, Callee, is_chained};
use self::choices::Choices;
use self::digest_list::DigestList;
use self::dispatch::Refusal;
use self::loader::{Loaded, Loader};
use self::manifest::{App, StaticResponse, Target};
use self::routes::{Matched, Routes};
use self::runtime_config::RuntimeConfig;
use self::sources::Sources;
use self::stores::Stores;
use self::variables::Variables;
use crate::body::{Body, BoxError, empty, full};
use crate::traces;

pub use self::component_files::{Candidate, Digest, MAX_COMPONENT_BYTES, Upload};
pub use self::compose::ComposeError;
pub(crate) use self::digest_list::is_key;
pub use self::digest_list::{AllowListError, AllowListOptions};
pub use self::files::FilesError;
pub use self::limits::Limits;
pub use self::manifest::ManifestError;
pub use self::metrics::ComponentMetrics;
pub use self::swap::{Checked, ComponentDetail, ComponentInfo, Rollback, SwapError, Swapped};

/// The client that a request of another component's has.
const INSIDE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0));

/// What a host is started with.
#[derive(Debug, Clone)]
pub struct HostOptions {
    /// The `spin.toml`; relative paths in it start at its folder.
    pub manifest: PathBuf,
    /// The `runtime-config.toml`, where there is one.
    pub runtime_config: Option<PathBuf>,
    /// Key-value stores that are in the state folder, beside `default`, unless the runtime configuration
    /// says otherwise.
    pub embedded_stores: &'static [&'static str],
    /// Looks up an environment variable, for the variable providers of the runtime configuration.
    pub environment: fn(&str) -> Option<String>,
    /// Folder of the databases and of compiled code, created if it is not there. Whoever can write to it
    /// can run code in this process.
    pub state_dir: PathBuf,
    /// Values of application variables by name, or by `SPIN_VARIABLE_<NAME>`; the former wins. Entries
    /// that the manifest does not declare are ignored.
    pub variables: BTreeMap<String, String>,
    /// What components may use.
    pub limits: Limits,
    /// Which files may run at all; any, if there is no list.
    pub allow_list: Option<AllowListOptions>,
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
    /// The runtime configuration is not there.
    #[error("cannot read the runtime configuration {}", path.display())]
    ReadRuntimeConfig {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The runtime configuration says something that this host does not serve.
    #[error("the runtime configuration {} cannot be served", path.display())]
    RuntimeConfig {
        /// The file.
        path: PathBuf,
        /// What it says.
        #[source]
        source: ManifestError,
    },
    /// A key-value store of the runtime configuration cannot be used.
    #[error("cannot use the key-value store `{label}`")]
    KeyValueStore {
        /// Its label.
        label: String,
        /// Why not.
        #[source]
        source: BoxError,
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
    /// What `files` names is not there.
    #[error("cannot mount the files of component `{component}`")]
    Files {
        /// Its stanza.
        component: String,
        /// Why not.
        #[source]
        source: FilesError,
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
    /// The allow-list cannot be trusted, or a component's file is not on it.
    #[error("the component files are not allowed to run")]
    AllowList(#[from] AllowListError),
    /// A database or folder is unusable.
    #[error("cannot open {}", path.display())]
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
    info: Bytes,
    routes: Routes,
    live: ArcSwap<Live>,
    loader: Loader,
    allow_list: Option<AllowListOptions>,
    /// Held by the one swap that is under way.
    swapping: Arc<Mutex<()>>,
    choices_path: PathBuf,
    requests: TaskTracker,
}

/// What serves now. It is replaced as a whole, so that a request sees all of a swap or nothing.
struct Live {
    /// By stanza.
    components: BTreeMap<String, Arc<Loaded>>,
    sources: Sources,
    choices: Choices,
}

impl ComponentHost {
    /// Reads the manifest, and compiles every routed component that has not been compiled before.
    ///
    /// # Errors
    ///
    /// A [`HostError`]; its sources name the file and the key that is wrong.
    pub async fn load(options: HostOptions) -> Result<Arc<Self>, HostError> {
        Self::load_on(options, |config, _| config).await
    }

    /// The same on a runtime configuration that is changed after it was read; `change` gets the state folder.
    async fn load_on(
        options: HostOptions,
        change: fn(RuntimeConfig, &Path) -> RuntimeConfig,
    ) -> Result<Arc<Self>, HostError> {
        // Compiling takes the processor for long, and everything else here waits for the disk.
        let load = move || {
            let config = read_runtime_config(options.runtime_config.as_deref())?;
            let config = change(config, &options.state_dir);
            Self::load_blocking(options, &config)
        };
        let loaded = tokio::task::spawn_blocking(load).await;
        let host = Arc::new(loaded.map_err(|error| HostError::Engine(error.into()))??);
        let application: Weak<Self> = Arc::downgrade(&host);
        host.loader.chain.connect(application);
        Ok(host)
    }

    fn load_blocking(options: HostOptions, config: &RuntimeConfig) -> Result<Self, HostError> {
        let HostOptions {
            manifest: path,
            runtime_config: _,
            embedded_stores,
            state_dir,
            variables,
            environment,
            limits,
            allow_list,
        } = options;
        let wrong = |source| HostError::Manifest { path: path.clone(), source };
        let text = std::fs::read_to_string(&path)
            .map_err(|source| HostError::ReadManifest { path: path.clone(), source })?;
        let app = App::parse(&text, path.parent().unwrap_or(Path::new(""))).map_err(wrong)?;
        let provided = |name: &str| config.providers.iter().find_map(|p| p.get(name, environment));
        let variables = Variables::resolve(&app, &variables, provided).map_err(wrong)?;
        let routes = Routes::new(app.routes.clone()).map_err(wrong)?;
        let list = allow_list.as_ref().map(DigestList::open).transpose()?;

        let stores = Stores::open(config, embedded_stores, &state_dir)?;
        let choices_path = state_dir.join("components.json");
        let loader = Loader::start(&path, app, &variables, &state_dir, stores, limits)?;
        let choices = Choices::read(&choices_path)
            .map_err(|e| HostError::State { path: choices_path.clone(), source: e.into() })?;
        let sources = Sources::new(Arc::clone(&loader.files), choices.current());
        let components = loader
            .routed()
            .into_iter()
            .map(|id| {
                let composed = loader.compose(&sources, &id)?;
                if let Some(list) = &list {
                    composed
                        .parts
                        .iter()
                        .try_for_each(|(name, digest)| list.check(name, digest))?;
                }
                let loaded = loader.link(&id, composed)?.serve();
                Ok((id, Arc::new(loaded)))
            })
            .collect::<Result<_, HostError>>()?;
        for (id, digest) in choices.current() {
            tracing::info!(component.id = id, component.digest = %digest, "serves a swapped file");
        }
        Ok(Self {
            info: info(&loader.app),
            routes,
            live: ArcSwap::from_pointee(Live { components, sources, choices }),
            loader,
            allow_list,
            swapping: Arc::default(),
            choices_path,
            requests: TaskTracker::new(),
        })
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
        if let Some(response) = self.well_known(request.uri().path()) {
            return response;
        }
        let Some(url) = full_url(&request, &origin.scheme) else {
            return status(StatusCode::BAD_REQUEST);
        };
        let Some(matched) = self.routes.find(url.path()) else {
            return status(StatusCode::NOT_FOUND);
        };
        if url.host().is_some_and(is_chained) {
            request.headers_mut().remove(header::HOST);
        }
        self.run(request, url, &matched, origin.client, tracked).await
    }

    /// Runs a request for which the target is found.
    async fn run(
        &self,
        mut request: Request<Body>,
        url: Uri,
        matched: &Matched<'_>,
        client: SocketAddr,
        tracked: TaskTrackerToken,
    ) -> Response<Body> {
        // Held until the response is ready: a swap meanwhile does not concern this request.
        let loaded = match matched.target {
            Target::Static(response) => return response.into(),
            Target::Component(id) => self.live.load().components.get(id).cloned(),
        };
        let Some(loaded) = loaded else {
            return status(StatusCode::NOT_FOUND);
        };
        routes::remove_host_headers(request.headers_mut());
        matched.add_headers(request.headers_mut(), &url, client);
        *request.uri_mut() = url;
        let span = tracing::info_span!(
            target: traces::TARGET,
            "component",
            otel.name = loaded.dispatcher.component(),
            component.id = loaded.dispatcher.component(),
            http.response.status_code = field::Empty,
        );
        traces::propagate(&span, request.headers_mut());
        let response = loaded.dispatcher.answer(request, tracked).instrument(span.clone()).await;
        span.record("http.response.status_code", response.status().as_u16());
        response
    }

    /// Paths that Spin answers itself, before any route.
    fn well_known(&self, path: &str) -> Option<Response<Body>> {
        match path.strip_prefix("/.well-known/spin/")? {
            "health" => Some(Response::new(full("OK"))),
            "info" => {
                let mut response = Response::new(full(self.info.clone()));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(header::CONTENT_TYPE, json);
                Some(response)
            }
            _ => Some(status(StatusCode::NOT_FOUND)),
        }
    }

    /// What its components do and use.
    #[must_use]
    pub fn metrics(&self) -> &ComponentMetrics {
        &self.loader.metrics
    }

    /// Components that have a route.
    #[must_use]
    pub fn component_names(&self) -> Vec<String> {
        self.live.load().components.keys().cloned().collect()
    }

    /// Refuses new requests, waits for those in flight to end, streams included, and drops all
    /// instances. May be called again, or be dropped and called again.
    pub async fn shutdown(&self) {
        self.requests.close();
        self.requests.wait().await;
        self.loader.stop.cancel();
        self.loader.workers.close();
        self.loader.workers.wait().await;
    }
}

impl Application for ComponentHost {
    fn call(
        self: Arc<Self>,
        callee: Callee,
        mut request: Request<Body>,
    ) -> BoxFuture<'static, Option<Response<Body>>> {
        // Not refused during a shutdown: the request that it serves is one that is waited for.
        let tracked = self.requests.token();
        Box::pin(async move {
            let (id, authority) = match callee {
                Callee::Application => {
                    let authority = Authority::from_static("self.alt");
                    request.headers_mut().remove(header::HOST);
                    let url = complete(request.uri(), &Scheme::HTTP, authority)?;
                    let Some(matched) = self.routes.find(url.path()) else {
                        return Some(status(StatusCode::NOT_FOUND));
                    };
                    return Some(self.run(request, url.clone(), &matched, INSIDE, tracked).await);
                }
                Callee::Component(id) => (id, request.uri().authority()?.clone()),
            };
            if !self.live.load().components.contains_key(&id) {
                return None;
            }
            request.headers_mut().remove(header::HOST);
            let url = complete(request.uri(), &Scheme::HTTP, authority)?;
            let target = Target::Component(id);
            let matched = Matched::chained(&target, url.path());
            Some(self.run(request, url.clone(), &matched, INSIDE, tracked).await)
        })
    }
}

impl From<&StaticResponse> for Response<Body> {
    fn from(fixed: &StaticResponse) -> Self {
        let mut response = Response::new(full(fixed.body.clone()));
        *response.status_mut() = fixed.status;
        *response.headers_mut() = fixed.headers.clone();
        response
    }
}

impl Drop for ComponentHost {
    fn drop(&mut self) {
        self.loader.stop.cancel();
    }
}

fn read_runtime_config(path: Option<&Path>) -> Result<RuntimeConfig, HostError> {
    let Some(path) = path else { return Ok(RuntimeConfig::default()) };
    let text = std::fs::read_to_string(path)
        .map_err(|source| HostError::ReadRuntimeConfig { path: path.to_owned(), source })?;
    RuntimeConfig::parse(&text, path.parent().unwrap_or(Path::new("")))
        .map_err(|source| HostError::RuntimeConfig { path: path.to_owned(), source })
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
    complete(request.uri(), scheme, authority)
}

fn complete(uri: &Uri, scheme: &Scheme, authority: Authority) -> Option<Uri> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Uri::builder().scheme(scheme.clone()).authority(authority).path_and_query(path).build().ok()
}

/// What `/.well-known/spin/info` answers.
fn info(app: &App) -> Bytes {
    let mut info = serde_json::json!({ "name": app.name });
    if !app.version.is_empty()
        && let Some(info) = info.as_object_mut()
    {
        info.insert("version".to_owned(), app.version.clone().into());
    }
    format!("{info:#}").into()
}

fn status(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;
