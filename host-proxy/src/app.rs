//! Puts the parts together: `bind` makes everything that can fail, `serve` runs it until it shall stop.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::admin::Admin;
use crate::admin::components::ComponentAdmin;
use crate::agent_client::AgentClient;
use crate::agent_poller::AgentPoller;
use crate::api::{ComponentApi, InternalApi, RemoteApi, RemoteError};
use crate::artifacts::Artifacts;
use crate::body;
use crate::bootstrap::{self, BootstrapError, Credentials};
use crate::component_host::{ComponentHost, HostError, HostOptions, Limits};
use crate::config::Config;
use crate::data_dir::{DataDir, DataDirError, Half};
use crate::edge::listener::{self, Bounds};
use crate::edge::{Door, Edge};
use crate::gateway::{AgentPool, Gateway};
use crate::hand_over::Named;
use crate::ide_proxy::{IdeAuthority, IdeProxy, PublicFace};
use crate::metrics::Metrics;
use crate::reach::Reach;
use crate::reconciler::local::{LocalDriver, LocalError, LocalSettings, NOT_ISOLATED};
use crate::reconciler::supervisor::Supervisor;
use crate::reconciler::{Board, Reconciler, Worker, WorkerSettings};
use crate::secrets::{Secrets, SecretsError};
use crate::shutdown::Shutdown;
use crate::streams::files::FileStreams;
use crate::streams::registry::Registry;
use crate::streams::revalidation;
use crate::variables::{Surroundings, component_variables};

mod components;
mod listeners;

pub use components::ComponentsApp;
use listeners::Listeners;
pub use listeners::{Addresses, url};

/// How long components may take to end what they do.
const COMPONENTS_DRAIN: Duration = Duration::from_secs(5);

/// zlh did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// Keys and secrets.
    #[error(transparent)]
    Secrets(#[from] SecretsError),
    /// A listener.
    #[error("cannot listen on {address} (`{setting}`)")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Who said so.
        setting: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// Listeners of the process before this one.
    #[error("the listeners that were handed over cannot be used (`LISTEN_FDS`)")]
    Inherited(#[source] io::Error),
    /// The embedded host.
    #[error("the components cannot be loaded (`--manifest`)")]
    Components(#[from] HostError),
    /// The remote host.
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// The first start.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// Containers of this machine.
    #[error(transparent)]
    Local(#[from] LocalError),
}

/// Where the components run.
#[derive(Debug, Clone)]
pub enum Backend {
    /// In this process.
    Embedded,
    /// At a URL.
    Remote(String),
}

/// Everything, ready to serve.
pub struct App {
    data: DataDir,
    listeners: Listeners,
    edge: Arc<Edge>,
    admin: Admin,
    artifacts: Artifacts,
    gateway: Arc<Gateway>,
    api: ComponentApi,
    internal: Arc<InternalApi>,
    streams: Arc<Registry>,
    poller: AgentPoller,
    reconciler: Reconciler,
    supervisor: Supervisor,
    bounds: Bounds,
    credentials: Option<Credentials>,
}

impl App {
    /// Takes the data folder and the addresses, loads the components and brings the database up to date.
    /// Clients that connect meanwhile wait.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong.
    pub async fn bind(config: Config, backend: Backend) -> Result<Self, StartError> {
        let halves: &[Half] = match backend {
            Backend::Embedded => &[Half::Components, Half::Proxy],
            Backend::Remote(_) => &[Half::Proxy],
        };
        let data = DataDir::open(&config.data_dir, halves)?;
        let secrets = Secrets::open(&data)?;
        let listeners = Listeners::bind(&config).await?;
        let addresses = listeners.addresses;
        let surroundings = surroundings(&config, addresses);
        let artifact_url = surroundings.artifact_url.clone();
        let driver = local_driver(&config, &data, &secrets)?;

        let api = components(&config, &backend, &data, &secrets, &surroundings).await?;
        let host_id = data.host_id()?;
        let internal = InternalApi::new(api.clone(), secrets.internal_keys()?, &host_id);
        bootstrap::migrate(&internal).await?;
        let credentials = bootstrap::first_user(&internal, &data, &config).await?;

        if !config.artifacts.is_dir() {
            tracing::warn!(folder = %config.artifacts.display(), "there is no artifact folder (`--artifacts`)");
        }
        if let ComponentApi::Embedded(host) = &api {
            host.prune().await;
            data.note_admin(addresses.admin)?;
        }
        let metrics = Arc::new(Metrics::of(&api));
        let streams = Registry::new(config.limits.max_ide_streams);
        let authority: Arc<dyn IdeAuthority> = internal.clone();
        let face = PublicFace {
            scheme: config.ide.scheme,
            tunnel_url: config.ide.public_url.clone(),
            tunnel_address: addresses.tunnel,
        };
        let reach = Reach::new(&host_id, secrets.internal_keys()?);
        let ide =
            Arc::new(IdeProxy::new(authority, Arc::clone(&reach), Arc::clone(&streams), face));
        let agents = AgentClient::new(&reach, secrets.agent_secret.clone());
        let gateway = Gateway {
            keys: secrets.gateway_keys()?,
            inventory: internal.clone(),
            agents: AgentPool::new(
                &reach,
                secrets.agent_secret.clone(),
                config.limits.max_body_bytes,
            ),
            reach: Arc::clone(&reach),
            streams: Arc::clone(&streams),
            room: Arc::new(Semaphore::new(config.limits.max_connections)),
        };
        let board = Board::new();
        let worker = Arc::new(Worker {
            api: internal.clone(),
            driver: driver.clone(),
            agents: agents.clone(),
            settings: WorkerSettings {
                agent_deadline: config.node.agent_deadline,
                ready_deadline: config.node.ready_deadline,
                artifact_url,
            },
            metrics: Arc::clone(&metrics),
        });
        Ok(Self {
            edge: Arc::new(
                Edge::new(
                    api.clone(),
                    ide,
                    FileStreams::new(
                        internal.clone(),
                        &reach,
                        secrets.agent_secret.clone(),
                        Arc::clone(&streams),
                    ),
                    config.ide.suffix.clone(),
                    config.limits,
                    Arc::clone(&metrics),
                )
                .behind(config.trusted_proxies.clone()),
            ),
            admin: Admin {
                components: component_admin(&api, &internal, &secrets),
                api: internal.clone(),
                metrics: Arc::clone(&metrics),
                streams: Arc::clone(&streams),
                leaving: CancellationToken::new(),
            },
            artifacts: Artifacts::new(&config.artifacts),
            gateway: Arc::new(gateway),
            poller: AgentPoller {
                api: internal.clone(),
                agents: agents.clone(),
                gateway_url: addresses.gateway.and(surroundings.gateway_url),
                interval: config.poll_interval,
                metrics: Arc::clone(&metrics),
            },
            reconciler: Reconciler { owner: host_id, worker, board: Arc::clone(&board) },
            supervisor: Supervisor {
                api: internal.clone(),
                driver,
                agents,
                board,
                orphan_grace: config.node.orphan_grace,
                metrics,
            },
            bounds: Bounds {
                connections: config.limits.max_connections,
                drain: config.limits.drain,
            },
            data,
            listeners,
            api,
            internal,
            streams,
            credentials,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> Addresses {
        self.listeners.addresses
    }

    /// What the first operator logs in with, on the first start.
    #[must_use]
    pub fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    /// The credentials were shown and will not be again.
    ///
    /// # Errors
    ///
    /// The data folder cannot be written.
    pub fn credentials_shown(&self) -> Result<(), StartError> {
        Ok(bootstrap::shown(&self.data)?)
    }

    /// Serves until the stop: then requests may end within the drain time, streams are closed, and containers
    /// stay as they are. Returns the listeners if another process goes on with them.
    pub async fn serve(self, shutdown: Shutdown) -> Option<Named> {
        let Self { listeners, edge, mut admin, artifacts, gateway, bounds, .. } = self;
        admin.leaving = shutdown.leaving.clone();
        let stop = shutdown.stop.clone();
        let tasks = TaskTracker::new();
        let public = Arc::clone(&edge);
        tasks.spawn(listener::serve(
            listeners.public,
            bounds,
            stop.clone(),
            move |request, client| {
                let edge = Arc::clone(&public);
                async move { edge.handle(Door::Public, request, client).await }
            },
        ));
        if let Some(tunnel) = listeners.tunnel {
            tasks.spawn(listener::serve(tunnel, bounds, stop.clone(), move |request, client| {
                let edge = Arc::clone(&edge);
                async move { edge.handle(Door::Tunnel, request, client).await }
            }));
        }
        tasks.spawn(listener::serve(listeners.admin, bounds, stop.clone(), move |request, _| {
            let admin = admin.clone();
            async move { admin.handle(request).await }
        }));
        tasks.spawn(listener::serve(
            listeners.artifacts,
            bounds,
            stop.clone(),
            move |request, _| {
                let artifacts = artifacts.clone();
                async move { artifacts.handle(request).await }
            },
        ));
        if let Some(listener) = listeners.gateway {
            tasks.spawn(listener::serve(listener, bounds, stop.clone(), move |request, client| {
                let gateway = Arc::clone(&gateway);
                async move { gateway.handle(request.map(body::received), client).await }
            }));
        }
        let authority: Arc<dyn IdeAuthority> = self.internal;
        tasks.spawn(revalidation::run(Arc::clone(&self.streams), authority, stop.clone()));
        tasks.spawn(self.poller.run(stop.clone()));
        tasks.spawn(self.reconciler.run(stop.clone()));
        tasks.spawn(self.supervisor.run(stop.clone()));

        stop.cancelled().await;
        // Without another program, whoever connects now would wait for nobody.
        let kept = shutdown.is_replaced().then_some(listeners.kept);
        tasks.close();
        tasks.wait().await;
        self.streams.close_all().await;
        if tokio::time::timeout(COMPONENTS_DRAIN, self.api.shutdown()).await.is_err() {
            tracing::warn!("components that did not end in time were cut off");
        }
        kept.filter(|_| shutdown.is_replaced())
    }
}

/// Components without listeners, for a single command. It takes no lock: the database has its own.
///
/// # Errors
///
/// A sentence about what is wrong.
pub async fn internal_api(
    config: &Config,
    backend: &Backend,
) -> Result<Arc<InternalApi>, StartError> {
    let data = DataDir::open(&config.data_dir, &[])?;
    let secrets = Secrets::open(&data)?;
    let surroundings = Surroundings::configured(config, None);
    let api = components(config, backend, &data, &secrets, &surroundings).await?;
    Ok(InternalApi::new(api, secrets.internal_keys()?, &data.host_id()?))
}

/// The driver of this machine's containers; also takes the lock, so that no zlh works against it.
///
/// # Errors
///
/// A sentence about what is wrong.
pub fn local_containers(config: &Config) -> Result<(DataDir, Arc<LocalDriver>), StartError> {
    let data = DataDir::open(&config.data_dir, &[Half::Proxy])?;
    let secrets = Secrets::open(&data)?;
    let driver = local_driver(config, &data, &secrets)?;
    Ok((data, driver))
}

/// What components that run elsewhere must be told to work with this configuration and data folder.
///
/// # Errors
///
/// The data folder cannot be used.
pub fn spin_variables(config: &Config) -> Result<BTreeMap<String, String>, StartError> {
    let data = DataDir::open(&config.data_dir, &[])?;
    let secrets = Secrets::open(&data)?;
    let surroundings = Surroundings::configured(config, Some(config.listen.port()));
    Ok(component_variables(config, &secrets, &surroundings))
}

/// As the settings have them, and where they leave it open, as the listeners are.
fn surroundings(config: &Config, addresses: Addresses) -> Surroundings {
    let artifact_url = config.artifact_url.clone().unwrap_or_else(|| url(addresses.artifacts));
    let gateway_url = config.gateway_url.clone().or_else(|| addresses.gateway.map(url));
    Surroundings { artifact_url, public_port: Some(addresses.public.port()), gateway_url }
}

async fn components(
    config: &Config,
    backend: &Backend,
    data: &DataDir,
    secrets: &Secrets,
    surroundings: &Surroundings,
) -> Result<ComponentApi, StartError> {
    Ok(match backend {
        Backend::Embedded => {
            ComponentApi::Embedded(load(config, data, secrets, surroundings).await?)
        }
        Backend::Remote(base) => ComponentApi::Remote(Box::new(RemoteApi::new(base)?)),
    })
}

async fn load(
    config: &Config,
    data: &DataDir,
    secrets: &Secrets,
    surroundings: &Surroundings,
) -> Result<Arc<ComponentHost>, HostError> {
    let variables = component_variables(config, secrets, surroundings);
    ComponentHost::load(host_options(config, data.path("state"), variables)).await
}

/// What the embedded host is started with.
pub(crate) fn host_options(
    config: &Config,
    state_dir: PathBuf,
    variables: BTreeMap<String, String>,
) -> HostOptions {
    HostOptions {
        manifest: config.manifest.clone(),
        runtime_config: config.runtime_config.clone(),
        embedded_stores: &["agents"],
        environment: crate::config::variable,
        state_dir,
        variables,
        limits: Limits::default(),
        allow_list: config.component_allow_list.clone(),
    }
}

fn component_admin(
    api: &ComponentApi,
    internal: &Arc<InternalApi>,
    secrets: &Secrets,
) -> Option<ComponentAdmin> {
    let ComponentApi::Embedded(host) = api else { return None };
    Some(ComponentAdmin {
        host: Arc::clone(host),
        api: Arc::clone(internal),
        token: secrets.admin_token.as_str().into(),
    })
}

fn local_driver(
    config: &Config,
    data: &DataDir,
    secrets: &Secrets,
) -> Result<Arc<LocalDriver>, StartError> {
    let own_users = rustix::process::geteuid().is_root();
    if own_users {
        data.require_traversable()?;
    } else {
        tracing::warn!("{NOT_ISOLATED}");
    }
    if !config.node.agent_binary.is_file() {
        tracing::warn!("there is no agent program (`ZLH_AGENT_BINARY`): containers cannot be made");
    }
    Ok(LocalDriver::new(LocalSettings {
        data_dir: data.root().to_owned(),
        agent_binary: std::path::absolute(&config.node.agent_binary)
            .unwrap_or_else(|_| Path::new("zlh-agent").to_owned()),
        agent_secret: secrets.agent_secret.clone(),
        own_users,
    })?)
}
