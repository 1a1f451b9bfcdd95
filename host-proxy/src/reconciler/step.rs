//! The steps of a creation. Each is recorded before it acts, so each may be repeated and undone.

/// In order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Reserves ports. They are given back when the operation ends.
    Ports,
    /// Makes the container.
    Container,
    /// Starts its agent.
    Start,
    /// Waits until the agent answers.
    WaitAgent,
    /// Tells the agent what the container shall be.
    Configure,
    /// Waits until the workload is ready.
    WaitReady,
}

impl Step {
    #[cfg(test)]
    pub(super) const ALL: [Self; 6] = [
        Self::Ports,
        Self::Container,
        Self::Start,
        Self::WaitAgent,
        Self::Configure,
        Self::WaitReady,
    ];

    /// Its name in the record.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Container => "container",
            Self::Start => "start",
            Self::WaitAgent => "wait-agent",
            Self::Configure => "configure",
            Self::WaitReady => "wait-ready",
        }
    }

    /// What customers are shown meanwhile.
    pub(super) fn message(self) -> &'static str {
        match self {
            Self::Ports => "reserving ports",
            Self::Container => "making the container",
            Self::Start => "starting the container",
            Self::WaitAgent => "waiting for the container's agent",
            Self::Configure => "configuring the container",
            Self::WaitReady => "installing",
        }
    }

    /// What its undoing does.
    pub(super) fn undo(name: &str) -> Undo {
        match name {
            "start" => Undo::Stop,
            "container" => Undo::Remove,
            _ => Undo::Nothing,
        }
    }
}

/// How a step is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Undo {
    Nothing,
    Stop,
    Remove,
}
