//! Gets artifacts for a container.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use zlh_agent_protocol::artifact::{DEV_CATALOG_PATH, DevCatalog, GAME_CATALOG_PATH};
use zlh_agent_protocol::config::GameConfig;
use zlh_agent_protocol::game::{GameCatalog, GameVersion};

use super::{ProvisionError, io_error};
use crate::agent::Agent;
use crate::facts::Event;
use crate::install::{self, InstallError, Installed, Store};

/// Gets artifacts, asking the store only for what is not installed.
pub(super) struct Shop<'a> {
    agent: &'a Arc<Agent>,
    store: Store,
    catalog: Option<DevCatalog>,
}

impl<'a> Shop<'a> {
    pub(super) fn new(agent: &'a Arc<Agent>, base_url: &str) -> Result<Self, ProvisionError> {
        let jitter = Duration::from_millis(u64::from(agent.config.vmid.get() % 1000));
        let store = Store::new(base_url, jitter).map_err(InstallError::from)?;
        Ok(Self { agent, store, catalog: None })
    }

    /// What a game container runs: as it was installed, or as the catalogue has it now.
    pub(super) async fn game(
        &mut self,
        config: &GameConfig,
        known: Option<GameVersion>,
    ) -> Result<(GameVersion, Installed), ProvisionError> {
        let folder = self.agent.layout.game(&config.game, &config.variant, &config.version);
        if let (Some(version), Some(installed)) = (known, install::installed(&folder)) {
            return Ok((version, installed));
        }
        self.step("read the catalogue of games".to_owned());
        let catalog: GameCatalog =
            self.store.catalog(GAME_CATALOG_PATH).await.map_err(InstallError::from)?;
        let version = install::game(&catalog, config).map_err(InstallError::from)?.clone();
        self.step(format!("install {} {}", config.game, config.version));
        let installed =
            self.agent.installer.install(&self.store, &version.artifact, &folder).await?;
        Ok((version, installed))
    }

    pub(super) async fn runtime(
        &mut self,
        runtime: &str,
        version: &str,
    ) -> Result<Installed, ProvisionError> {
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

    pub(super) async fn code_server(
        &mut self,
        version: Option<&str>,
    ) -> Result<Installed, ProvisionError> {
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
                self.store.catalog(DEV_CATALOG_PATH).await.map_err(InstallError::from)?
            }
        };
        Ok(self.catalog.insert(catalog))
    }

    pub(super) fn step(&self, step: String) {
        self.agent.facts.post(Event::Step(step));
    }
}
