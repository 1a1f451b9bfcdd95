//! What the agent knows about its container, and the events that change it.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zlh_agent_protocol::agent::AgentState;

/// A snapshot of what is known.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts {
    pub(crate) state: AgentState,
    pub(crate) install_step: Option<String>,
    pub(crate) crash_count: u32,
    pub(crate) error: Option<String>,
    pub(crate) runtime_installed: bool,
    pub(crate) dev_provisioned: bool,
    pub(crate) provisioning_complete: bool,
    pub(crate) code_server_installed: bool,
    pub(crate) last_ready_at: Option<String>,
    /// What the last installation said.
    pub(crate) install_log: VecDeque<String>,
}

/// Lines of an installation that are kept, and what is kept of each.
const MAX_LOG_LINES: usize = 200;
const MAX_LOG_CHARS: usize = 300;

/// What happened.
#[derive(Debug)]
pub(crate) enum Event {
    /// A configuration was accepted, or taken up again after a restart.
    Accepted,
    /// An installation got to this step.
    Step(String),
    RuntimeInstalled,
    CodeServerInstalled,
    /// User, home, workspace and runtime are in place.
    Provisioned,
    /// All that the configuration asks for is so.
    Complete,
    /// The configuration cannot be had.
    Failed(String),
    /// code-server ended by itself, or did not come up when it was started again.
    Crashed(String),
    /// code-server runs, or was stopped on purpose.
    Recovered,
    /// It has run long enough for earlier crashes not to count.
    Settled,
    /// The semantic check went well.
    Ready(String),
}

impl Facts {
    fn log(&mut self, line: &str) {
        if self.install_log.len() == MAX_LOG_LINES {
            self.install_log.pop_front();
        }
        let plain = line.chars().filter(|c| !c.is_control()).take(MAX_LOG_CHARS);
        self.install_log.push_back(plain.collect());
    }

    /// The only place that changes the state.
    fn apply(&mut self, event: Event) {
        match event {
            Event::Accepted => {
                *self = Self {
                    state: AgentState::Installing,
                    last_ready_at: self.last_ready_at.take(),
                    ..Self::default()
                }
            }
            Event::Step(step) => {
                self.log(&step);
                self.install_step = Some(step);
            }
            Event::RuntimeInstalled => self.runtime_installed = true,
            Event::CodeServerInstalled => self.code_server_installed = true,
            Event::Provisioned => self.dev_provisioned = true,
            Event::Complete => {
                self.state = AgentState::Running;
                self.provisioning_complete = true;
                self.install_step = None;
                self.error = None;
            }
            Event::Failed(error) => {
                self.log(&error);
                self.state = AgentState::Error;
                self.error = Some(error);
            }
            Event::Crashed(error) => {
                self.crash_count = self.crash_count.saturating_add(1);
                // Before that, an installation or its failure is what matters.
                if self.provisioning_complete {
                    self.state = AgentState::Crashed;
                    self.error = Some(error);
                }
            }
            // While anything else is missing, that is what matters.
            Event::Recovered if !self.dev_provisioned => {}
            Event::Recovered => {
                self.state = AgentState::Running;
                self.provisioning_complete = true;
                self.install_step = None;
                self.error = None;
            }
            Event::Settled => self.crash_count = 0,
            Event::Ready(at) => self.last_ready_at = Some(at),
        }
    }
}

/// The facts, shared.
#[derive(Debug, Default)]
pub(crate) struct Board(Mutex<Facts>);

impl Board {
    pub(crate) fn read(&self) -> Facts {
        self.lock().clone()
    }

    pub(crate) fn post(&self, event: Event) {
        match &event {
            Event::Step(step) => tracing::info!("{step}"),
            Event::Failed(error) => tracing::error!("gave up: {error}"),
            Event::Crashed(error) => tracing::warn!("crashed: {error}"),
            _ => {}
        }
        self.lock().apply(event);
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
