//! Containers as folders of this machine, each with an agent that outlives zlh.
//!
//! ```text
//! <data>/containers/<vmid>/agent-token   the agent's credential, out of the workload's sight
//!                          agent.log
//!                          root/         what the workload sees as its own
//!                          boots         how often it was begun anew; absent while that is never
//!                          instance      which life it is; written last, so that what has it is whole
//! ```

use std::collections::HashMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};
use zlh_agent_protocol::agent::agent_token;
use zlh_agent_protocol::internal::Placement;
use zlh_ids::Vmid;

use super::driver::{Container, DriverError, Found, NodeDriver};

mod agent_process;
mod folder;
mod sweep;

use agent_process::{AgentProcess, Launch};
use folder::Folder;

/// `sun_path` of a Unix socket holds 108 bytes with its final zero (unix(7)).
const MAX_SOCKET_PATH_BYTES: usize = 107;
/// First user id of workloads: above what systems give to people and services, below what they give to
/// sub-users by default (100,000 to 165,535 for the first, then upwards).
const FIRST_UID: u32 = 206_000;
/// Vmids of one machine are fewer and closer together than this, so that no two share a user.
const UIDS: u32 = 60_000;

/// What the driver is made with.
#[derive(Debug, Clone)]
pub struct LocalSettings {
    /// The data folder, absolute.
    pub data_dir: PathBuf,
    /// The agent's program.
    pub agent_binary: PathBuf,
    /// Keys the agents' tokens.
    pub agent_secret: String,
    /// Whether each workload gets a user of its own, for which zlh must be root.
    pub own_users: bool,
}

/// Containers of this machine.
pub struct LocalDriver {
    settings: LocalSettings,
    /// One at a time per container.
    slots: Mutex<HashMap<Vmid, Arc<AsyncMutex<AgentProcess>>>>,
}

impl LocalDriver {
    /// A driver below a data folder.
    ///
    /// # Errors
    ///
    /// The folder's path is too long for sockets below it, or it cannot be used.
    pub fn new(settings: LocalSettings) -> Result<Arc<Self>, LocalError> {
        let driver = Self { settings, slots: Mutex::default() };
        let longest = Vmid::new(999_999).map(|vmid| driver.folder(vmid).ide_socket());
        if longest.is_some_and(|path| path.as_os_str().len() > MAX_SOCKET_PATH_BYTES) {
            return Err(LocalError::PathTooLong(driver.settings.data_dir));
        }
        folder::make(&driver.settings.data_dir.join("containers"), 0o711)
            .map_err(LocalError::Io)?;
        folder::make(&driver.settings.data_dir.join("artifact-cache"), 0o755)
            .map_err(LocalError::Io)?;
        Ok(Arc::new(driver))
    }

    /// Stops every container that is there.
    ///
    /// # Errors
    ///
    /// The first one that could not be stopped, after all were tried.
    pub async fn stop_all(&self) -> Result<usize, DriverError> {
        let found = self.list().await?;
        let mut failed = None;
        for container in &found {
            let mut agent = self.slot(container.vmid).await;
            if let Err(error) = agent.down(&self.launch(container.vmid, 0)).await {
                failed = Some(DriverError::new(
                    format!("container {} could not be stopped", container.vmid),
                    error,
                ));
            }
        }
        failed.map_or(Ok(found.len()), Err)
    }

    fn folder(&self, vmid: Vmid) -> Folder {
        Folder::new(self.settings.data_dir.join("containers").join(vmid.to_string()))
    }

    async fn slot(&self, vmid: Vmid) -> OwnedMutexGuard<AgentProcess> {
        let slot = {
            let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(slots.entry(vmid).or_default())
        };
        slot.lock_owned().await
    }

    fn launch(&self, vmid: Vmid, port: u16) -> Launch {
        Launch {
            program: self.settings.agent_binary.clone(),
            vmid,
            port,
            user: self.settings.own_users.then(|| FIRST_UID + vmid.get() % UIDS),
            folder: self.folder(vmid),
            artifact_cache: self.settings.data_dir.join("artifact-cache"),
        }
    }

    /// Ends everything in the folder and removes it.
    async fn clear(&self, agent: &mut AgentProcess, vmid: Vmid) -> io::Result<()> {
        let folder = self.folder(vmid);
        if folder.exists().await {
            agent.down(&self.launch(vmid, 0)).await?;
            folder.remove().await?;
        }
        Ok(())
    }
}

/// The driver cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// Sockets have short names.
    #[error(
        "the path of the data folder, {0}, is too long: sockets below it may have {MAX_SOCKET_PATH_BYTES} \
         bytes; use a shorter `--data-dir`"
    )]
    PathTooLong(PathBuf),
    /// The file system.
    #[error("the folder of the containers cannot be made")]
    Io(#[source] io::Error),
}

#[async_trait]
impl NodeDriver for LocalDriver {
    async fn create(&self, container: &Container) -> Result<(), DriverError> {
        let mut agent = self.slot(container.vmid).await;
        let folder = self.folder(container.vmid);
        let failed = |error: io::Error| DriverError::new("the container could not be made", error);
        if folder.instance().await.map_err(failed)? == Some(container.instance) {
            return Ok(());
        }
        self.clear(&mut agent, container.vmid).await.map_err(failed)?;
        let secret = self.settings.agent_secret.as_bytes();
        let token = agent_token(secret, container.vmid, container.instance);
        folder.create(container.instance, token).await.map_err(failed)
    }

    async fn start(&self, container: &Container) -> Result<(), DriverError> {
        let mut agent = self.slot(container.vmid).await;
        let launch = self.launch(container.vmid, agent_port(container)?);
        agent.start(&launch).await.map_err(|error| not_started(error, launch.port))
    }

    async fn stop(&self, container: &Container) -> Result<(), DriverError> {
        let mut agent = self.slot(container.vmid).await;
        if !self.folder(container.vmid).exists().await {
            return Ok(());
        }
        let stopped = agent.down(&self.launch(container.vmid, 0)).await;
        stopped.map_err(|error| DriverError::new("the container could not be stopped", error))
    }

    async fn remove(&self, container: &Container) -> Result<(), DriverError> {
        let mut agent = self.slot(container.vmid).await;
        let removed = self.clear(&mut agent, container.vmid).await;
        removed.map_err(|error| DriverError::new("the container could not be removed", error))
    }

    fn placement(&self, container: &Container) -> Result<Placement, DriverError> {
        let socket = self.folder(container.vmid).ide_socket();
        Ok(Placement {
            agent_address: format!("{}:{}", Ipv4Addr::LOCALHOST, agent_port(container)?),
            ide_address: Some(format!("unix:{}", socket.display())),
        })
    }

    async fn list(&self) -> Result<Vec<Found>, DriverError> {
        let failed = |error: io::Error| DriverError::new("containers cannot be listed", error);
        let mut found = Vec::new();
        let mut entries =
            tokio::fs::read_dir(self.settings.data_dir.join("containers")).await.map_err(failed)?;
        while let Some(entry) = entries.next_entry().await.map_err(failed)? {
            let vmid = entry.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(vmid) = vmid else { continue };
            found.push(Found {
                vmid,
                instance: self.folder(vmid).instance().await.map_err(failed)?,
            });
        }
        Ok(found)
    }

    async fn lacks_boots(&self, container: &Container, boots: u32) -> Result<bool, DriverError> {
        let begun = self.folder(container.vmid).boots().await;
        begun.map(|begun| begun < boots).map_err(|error| {
            DriverError::new("how often the container was begun cannot be read", error)
        })
    }

    async fn revive(&self, container: &Container, boots: u32) -> Result<bool, DriverError> {
        let mut agent = self.slot(container.vmid).await;
        let failed = |error: io::Error| {
            DriverError::new("the container's agent could not be started", error)
        };
        if self.folder(container.vmid).instance().await.map_err(failed)? != Some(container.instance)
        {
            return Ok(false);
        }
        let launch = self.launch(container.vmid, agent_port(container)?);
        if self.folder(container.vmid).boots().await.map_err(failed)? < boots {
            agent.down(&launch).await.map_err(failed)?;
            self.folder(container.vmid).set_boots(boots).await.map_err(failed)?;
        }
        agent.revive(&launch).await.map_err(|error| not_started(error, launch.port))
    }

    async fn set_aside(&self, found: Found) -> Result<(), DriverError> {
        let mut agent = self.slot(found.vmid).await;
        let folder = self.folder(found.vmid);
        let failed =
            |error: io::Error| DriverError::new("a stray container could not be set aside", error);
        // Meanwhile another life may have taken its place.
        if !folder.exists().await || folder.instance().await.map_err(failed)? != found.instance {
            return Ok(());
        }
        agent.down(&self.launch(found.vmid, 0)).await.map_err(failed)?;
        match found.instance {
            Some(instance) => {
                let aside = self.settings.data_dir.join("set-aside");
                folder
                    .set_aside(&aside, &format!("{}-{instance}", found.vmid))
                    .await
                    .map_err(failed)
            }
            None => folder.remove().await.map_err(failed),
        }
    }
}

fn not_started(error: io::Error, port: u16) -> DriverError {
    let message = match error.kind() {
        io::ErrorKind::AddrInUse => {
            format!("port {port}, which the container was given, is taken by another program")
        }
        _ => "the container's agent could not be started".to_owned(),
    };
    DriverError::new(message, error)
}

fn agent_port(container: &Container) -> Result<u16, DriverError> {
    let port = container.ports.first().copied();
    port.ok_or_else(|| DriverError::new("the container has no port", "no port was allocated"))
}

/// Why containers are not kept apart, when they are not.
pub const NOT_ISOLATED: &str = "zlh is not run by root, so that containers of this machine share its user: \
                                they can read each other's files. Use this for development only";

#[cfg(test)]
mod tests;
