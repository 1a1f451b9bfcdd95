//! What can be done with code-server, and where its agent is.

use zlh_ids::InstanceId;

/// What is to be done with code-server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Let it run.
    Start,
    /// Let it run no more.
    Stop,
    /// Stop it if it runs, then start it.
    Restart,
}

impl Verb {
    /// The last part of the path, here and at the agent.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Stop => "stop",
            Self::Restart => "restart",
        }
    }
}

/// A dev container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevContainer {
    /// Which life of it.
    pub instance_id: InstanceId,
    /// `host:port` of its agent; none until the container is here.
    pub agent_address: Option<String>,
}
