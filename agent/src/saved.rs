//! What survives a restart of the agent: the last accepted configuration and what the customer chose since.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use zlh_agent_protocol::agent::AgentConfig;
use zlh_agent_protocol::game::GameVersion;

use crate::durable;
use crate::server::Life;

/// The contents of `config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Saved {
    pub(crate) config: AgentConfig,
    /// The customer stopped code-server; it stays so until it is started again.
    #[serde(default)]
    pub(crate) code_server_stopped: bool,
    /// Which one was installed; a newer one in the catalogue does not replace it behind the customer's back.
    #[serde(default)]
    pub(crate) code_server_version: Option<String>,
    /// When the container was first provisioned.
    #[serde(default)]
    pub(crate) dev_ready_at: Option<String>,
    /// The game that was installed, as the catalogue had it then.
    #[serde(default)]
    pub(crate) game: Option<GameVersion>,
    /// The game server's.
    #[serde(default)]
    pub(crate) life: Life,
}

impl Saved {
    /// Whether the configuration asks for a code-server, stopped or not.
    pub(crate) fn has_code_server(&self) -> bool {
        matches!(&self.config, AgentConfig::Dev(dev) if dev.enable_code_server)
    }
}

/// The file and its contents.
#[derive(Debug)]
pub(crate) struct SavedFile {
    path: PathBuf,
    saved: Mutex<Option<Saved>>,
}

impl SavedFile {
    pub(crate) fn load(path: PathBuf) -> io::Result<Self> {
        let saved = match std::fs::read(&path) {
            Ok(bytes) => Some(serde_json::from_slice(&bytes)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { path, saved: Mutex::new(saved) })
    }

    pub(crate) fn get(&self) -> Option<Saved> {
        self.lock().clone()
    }

    /// Takes a new configuration, keeping what still holds.
    pub(crate) fn set_config(&self, config: AgentConfig) -> io::Result<()> {
        let mut saved = self.lock();
        let old = saved.clone();
        let mut next = Saved {
            code_server_stopped: false,
            code_server_version: old.as_ref().and_then(|old| old.code_server_version.clone()),
            dev_ready_at: old.as_ref().and_then(|old| old.dev_ready_at.clone()),
            // The catalogue may describe it better by now.
            game: None,
            life: old.map(|old| old.life).unwrap_or_default(),
            config,
        };
        next.life.begin_anew();
        // What runs was started for the configuration before this one.
        next.life.ending = next.life.running;
        self.write(&next)?;
        *saved = Some(next);
        Ok(())
    }

    /// Changes something. Blocks for as long as the disk takes to have a few hundred bytes.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Saved)) -> io::Result<()> {
        let mut saved = self.lock();
        let Some(mut next) = saved.clone() else { return Ok(()) };
        change(&mut next);
        if saved.as_ref() != Some(&next) {
            self.write(&next)?;
            *saved = Some(next);
        }
        Ok(())
    }

    fn write(&self, saved: &Saved) -> io::Result<()> {
        durable::write(&self.path, &serde_json::to_vec_pretty(saved)?)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Saved>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
