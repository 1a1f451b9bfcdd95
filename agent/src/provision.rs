//! Makes a dev container what its configuration says. Every step is skipped where it is done already, so
//! this also runs whenever the agent starts.

use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use zlh_agent_protocol::agent::AgentConfig;
use zlh_agent_protocol::artifact::DevCatalog;
use zlh_agent_protocol::config::DevConfig;
use zlh_ids::Vmid;

use crate::agent::Agent;
use crate::blocking::blocking;
use crate::clock;
use crate::code_server::{CodeServerError, Launch};
use crate::facts::Event;
use crate::install::{self, InstallError, Installed, Store, is_name};
use crate::workload::{self, WorkloadError};

/// Why the container is not what it shall be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProvisionError {
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    #[error(transparent)]
    Install(#[from] InstallError),
    #[error(transparent)]
    CodeServer(#[from] CodeServerError),
    #[error("cannot {doing}")]
    Io {
        doing: &'static str,
        #[source]
        source: io::Error,
    },
}

/// Refuses at once what can be refused without asking the artifact store.
pub(crate) fn check(config: &AgentConfig, vmid: Vmid) -> Result<(), String> {
    if config.vmid() != vmid {
        return Err(format!("this is container {vmid}, not {}", config.vmid()));
    }
    let AgentConfig::Dev(config) = config else {
        return Err("container_type `game` is not supported yet".to_owned());
    };
    for (field, value) in [("runtime", &config.runtime), ("version", &config.version)] {
        if !is_name(value) {
            return Err(format!("`{field}` is not a name that a catalogue can have"));
        }
    }
    Store::new(&config.artifact_base_url, Duration::ZERO)
        .map(drop)
        .map_err(|error| error.to_string())
}

/// Brings it all about.
///
/// Dropping the future leaves a state from which it can be called again.
pub(crate) async fn provision(agent: &Arc<Agent>) -> Result<(), ProvisionError> {
    let Some(saved) = agent.saved.get() else { return Ok(()) };
    let AgentConfig::Dev(config) = &saved.config else { return Ok(()) };
    let mut shop = Shop::new(agent, config)?;

    agent.facts.post(Event::Step(format!("prepare user {} and workspace", agent.config.user)));
    let workload = {
        let agent = Arc::clone(agent);
        blocking(move || {
            let workload = workload::resolve(&agent.config)?;
            agent
                .layout
                .prepare_home(workload.ids)
                .map_err(io_error("prepare home and workspace"))?;
            Ok::<_, ProvisionError>(workload)
        })
        .await?
    };

    let runtime = shop.runtime().await?;
    agent.facts.post(Event::RuntimeInstalled);

    let launch = if config.enable_code_server {
        let code_server = shop.code_server(saved.code_server_version.as_deref()).await?;
        agent.facts.post(Event::CodeServerInstalled);
        let how = (&agent.config.code_server_listen, &agent.config.code_server_args);
        let user = &agent.config.user;
        let launch = Launch::new(
            agent.config.vmid,
            &agent.layout,
            how,
            workload,
            user,
            &code_server,
            &runtime,
        );
        Some(Arc::new(launch))
    } else {
        None
    };
    agent.facts.post(Event::Provisioned);
    let now = clock::text(&agent.clock);
    agent
        .save(|saved| saved.dev_ready_at = saved.dev_ready_at.take().or(Some(now)))
        .await
        .map_err(io_error("save that the container is provisioned"))?;

    let before = {
        let mut current = agent.launch.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, launch.clone())
    };
    match (launch, before) {
        (Some(launch), _) if saved.code_server_stopped => agent.code_server.stop(&launch).await?,
        (Some(launch), _) => {
            agent.facts.post(Event::Step("start code-server".to_owned()));
            agent.code_server.ensure(&launch).await?;
        }
        (None, Some(before)) => agent.code_server.stop(&before).await?,
        (None, None) => {}
    }
    Ok(())
}

/// Gets artifacts, asking the store only for what is not installed.
struct Shop<'a> {
    agent: &'a Arc<Agent>,
    config: &'a DevConfig,
    store: Store,
    catalog: Option<DevCatalog>,
}

impl<'a> Shop<'a> {
    fn new(agent: &'a Arc<Agent>, config: &'a DevConfig) -> Result<Self, ProvisionError> {
        let jitter = Duration::from_millis(u64::from(config.vmid.get() % 1000));
        let store = Store::new(&config.artifact_base_url, jitter).map_err(InstallError::from)?;
        Ok(Self { agent, config, store, catalog: None })
    }

    async fn runtime(&mut self) -> Result<Installed, ProvisionError> {
        let (runtime, version) = (&self.config.runtime, &self.config.version);
        let folder = self.agent.layout.runtime(runtime, version);
        if let Some(installed) = install::installed(&folder) {
            return Ok(installed);
        }
        let artifact = install::runtime(self.catalog().await?, runtime, version)
            .map_err(InstallError::from)?
            .clone();
        self.step(format!("install {runtime} {version}"));
        Ok(self.agent.installer.install(&self.store, &artifact, &folder).await?)
    }

    async fn code_server(&mut self, version: Option<&str>) -> Result<Installed, ProvisionError> {
        let shelf = self.agent.layout.code_servers();
        if let Some(installed) =
            version.and_then(|version| install::installed(&shelf.join(version)))
        {
            return Ok(installed);
        }
        let artifact =
            install::code_server(self.catalog().await?).map_err(InstallError::from)?.clone();
        self.step(format!("install code-server {}", artifact.version));
        let installed = self
            .agent
            .installer
            .install(&self.store, &artifact, &shelf.join(Path::new(&artifact.version)))
            .await?;
        self.agent
            .save(|saved| saved.code_server_version = Some(artifact.version))
            .await
            .map_err(io_error("save the version of code-server"))?;
        Ok(installed)
    }

    async fn catalog(&mut self) -> Result<&DevCatalog, ProvisionError> {
        let catalog = match self.catalog.take() {
            Some(catalog) => catalog,
            None => {
                self.step("read the catalogue".to_owned());
                self.store.catalog().await.map_err(InstallError::from)?
            }
        };
        Ok(self.catalog.insert(catalog))
    }

    fn step(&self, step: String) {
        self.agent.facts.post(Event::Step(step));
    }
}

fn io_error(doing: &'static str) -> impl FnOnce(io::Error) -> ProvisionError {
    move |source| ProvisionError::Io { doing, source }
}
