//! What a place for containers can do.

use async_trait::async_trait;
use zlh_agent_protocol::internal::Placement;
use zlh_ids::{InstanceId, Vmid};

/// A container, as its driver needs to know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it.
    pub instance: InstanceId,
    /// Ports that belong to it; the first is the agent's.
    pub ports: Vec<u16>,
}

impl Container {
    /// Ports that its game listens on.
    #[must_use]
    pub fn game_ports(&self) -> &[u16] {
        self.ports.split_first().map_or(&[], |(_, others)| others)
    }
}

/// A container that is there, as far as it can be recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Found {
    /// The container.
    pub vmid: Vmid,
    /// Which life of it; none when it was left half made.
    pub instance: Option<InstanceId>,
}

/// A driver could not do it; the sentence is for the customer and names no path or address.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct DriverError {
    /// For the customer.
    pub message: String,
    /// For the log.
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl DriverError {
    /// A failure with its cause.
    pub fn new(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { message: message.into(), source: Some(source.into()) }
    }
}

/// A place for containers. Every method may be repeated, also after a crash in its middle.
#[async_trait]
pub trait NodeDriver: Send + Sync + 'static {
    /// Makes the container. One of an earlier life in its place is removed first.
    async fn create(&self, container: &Container) -> Result<(), DriverError>;
    /// Starts its agent, if it does not run.
    async fn start(&self, container: &Container) -> Result<(), DriverError>;
    /// Stops everything in it.
    async fn stop(&self, container: &Container) -> Result<(), DriverError>;
    /// Stops and removes it with everything in it.
    async fn remove(&self, container: &Container) -> Result<(), DriverError>;
    /// Where its listeners are.
    ///
    /// # Errors
    ///
    /// It has no ports.
    fn placement(&self, container: &Container) -> Result<Placement, DriverError>;
    /// Every container that is there.
    async fn list(&self) -> Result<Vec<Found>, DriverError>;
    /// Whether the container was begun anew fewer times than this.
    async fn lacks_boots(&self, container: &Container, boots: u32) -> Result<bool, DriverError>;
    /// Starts the agent if it does not run and the container is of this very life; true if it did. A container
    /// that was begun anew fewer times than `boots` is stopped first.
    async fn revive(&self, container: &Container, boots: u32) -> Result<bool, DriverError>;
    /// Stops a container that nobody knows and puts it where it is in nobody's way.
    async fn set_aside(&self, found: Found) -> Result<(), DriverError>;
}
