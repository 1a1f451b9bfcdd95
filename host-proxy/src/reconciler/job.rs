//! The steps of one operation: what is done, recorded, waited for and undone.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::watch;
use tokio::time::Instant;
use zlh_agent_protocol::agent::AgentState;
use zlh_agent_protocol::config::{AgentConfig, CrashPolicy, DevConfig, GameConfig};
use zlh_agent_protocol::internal::{
    AllocatePorts, FinishOperation, Machine, Operation, OperationKind, Outcome, Placement,
    RecordStep, UndoOperation, Workload,
};

use super::driver::{Container, DriverError};
use super::step::{Step, Undo};
use super::worker::Worker;
use crate::agent_client::{AgentAddress, AgentFault};
use crate::api::CallError;
use crate::clock::pause;

/// The agent's port; an IDE listens on a socket.
const AGENT_PORTS: u16 = 1;
/// Between two looks at an agent that is not there yet.
const AGENT_POLL: Duration = Duration::from_millis(250);
/// Between two looks at a workload that is not ready yet.
const READY_POLL: Duration = Duration::from_millis(500);
/// Before something that must succeed is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(2);

/// Why work on an operation ends before its end.
#[derive(Debug)]
pub(super) enum Halt {
    /// It cannot be done; the sentence is for the customer.
    Failed(String),
    /// It is another's now: nothing may be touched any more.
    LeaseLost,
    /// The components do not answer. It goes on once they do.
    Interrupted(CallError),
}

impl From<CallError> for Halt {
    fn from(error: CallError) -> Self {
        match error.status() {
            Some(StatusCode::CONFLICT) => Self::LeaseLost,
            _ => Self::Interrupted(error),
        }
    }
}

impl From<DriverError> for Halt {
    fn from(error: DriverError) -> Self {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a container could not be handled"
        );
        Self::Failed(error.message)
    }
}

/// An operation in progress.
pub(super) struct Job<'a> {
    worker: &'a Worker,
    operation: &'a Operation,
    recorded: Vec<String>,
    say: watch::Sender<Option<String>>,
}

impl<'a> Job<'a> {
    pub(super) fn new(
        worker: &'a Worker,
        operation: &'a Operation,
        say: watch::Sender<Option<String>>,
    ) -> Self {
        let recorded = operation.steps.iter().map(|step| step.name.clone()).collect();
        Self { worker, operation, recorded, say }
    }

    /// Does what is left of the operation.
    pub(super) async fn run(&mut self) -> Result<Outcome, Halt> {
        let outcome = match (self.operation.kind, &self.operation.undoing) {
            (OperationKind::Delete, _) => self.delete().await?,
            (OperationKind::Create, Some(_)) => self.undo().await?,
            (OperationKind::Create, None) => match self.create().await {
                Ok(placement) => Outcome::Created(placement),
                Err(Halt::Failed(reason)) => {
                    tracing::warn!(
                        operation.id = %self.operation.id, vmid = %self.operation.vmid, reason,
                        "creation failed and is undone"
                    );
                    let call = UndoOperation { lease: self.operation.lease, error: reason };
                    self.worker.api.undo(self.operation.id, &call).await?;
                    self.undo().await?
                }
                Err(halt) => return Err(halt),
            },
        };
        let call = FinishOperation { lease: self.operation.lease, outcome: outcome.clone() };
        self.worker.api.finish(self.operation.id, &call).await?;
        Ok(outcome)
    }

    async fn create(&mut self) -> Result<Placement, Halt> {
        let driver = Arc::clone(&self.worker.driver);

        self.begin(Step::Ports).await?;
        let container = self.container(self.ports().await?);
        let placement = driver.placement(&container)?;
        let agent = AgentAddress {
            vmid: container.vmid,
            instance: container.instance,
            address: placement.agent_address.clone(),
            // Whoever works on it is on its machine.
            machine: Machine::default(),
        };

        self.begin(Step::Container).await?;
        driver.create(&container).await?;

        self.begin(Step::Start).await?;
        driver.start(&container).await?;

        self.begin(Step::WaitAgent).await?;
        self.wait_agent(&container, &agent).await?;

        self.begin(Step::Configure).await?;
        self.configure(&container, &agent).await?;

        self.begin(Step::WaitReady).await?;
        self.wait_ready(&container, &agent).await?;
        Ok(placement)
    }

    async fn delete(&self) -> Result<Outcome, Halt> {
        self.say("stopping and removing the container");
        self.insist(Undo::Remove).await;
        Ok(Outcome::Deleted)
    }

    /// Undoes what was begun, newest first.
    async fn undo(&self) -> Result<Outcome, Halt> {
        self.say("undoing");
        for step in self.recorded.iter().rev() {
            self.insist(Step::undo(step)).await;
        }
        Ok(Outcome::Undone)
    }

    /// Does it until it is done: half a container must not be left, and the lease ends this if need be.
    async fn insist(&self, undo: Undo) {
        let container = self.container(self.operation.ports.clone());
        loop {
            let done = match undo {
                Undo::Nothing => Ok(()),
                Undo::Stop => self.worker.driver.stop(&container).await,
                Undo::Remove => self.worker.driver.remove(&container).await,
            };
            let Err(error) = done else { return };
            tracing::error!(error = &error as &dyn std::error::Error, vmid = %container.vmid, "clean-up failed");
            self.say(&format!("{}; trying again", error.message));
            pause(RETRY_PAUSE).await;
        }
    }

    /// Records a step that is about to act.
    async fn begin(&mut self, step: Step) -> Result<(), Halt> {
        self.say(step.message());
        if self.recorded.iter().any(|recorded| recorded == step.name()) {
            return Ok(());
        }
        let call = RecordStep { lease: self.operation.lease, step: step.name().to_owned() };
        self.worker.api.step(self.operation.id, &call).await?;
        self.recorded.push(call.step);
        Ok(())
    }

    async fn ports(&self) -> Result<Vec<u16>, Halt> {
        let of_the_game = match &self.operation.spec.workload {
            Workload::Dev { .. } => 0,
            Workload::Game { ports, .. } => *ports,
        };
        let count = AGENT_PORTS.saturating_add(of_the_game);
        let call = AllocatePorts { lease: self.operation.lease, count };
        match self.worker.api.ports(self.operation.id, &call).await {
            Ok(answer) => Ok(answer.ports),
            Err(error) if error.status() == Some(StatusCode::SERVICE_UNAVAILABLE) => {
                Err(Halt::Failed(error.message().to_owned()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn wait_agent(&self, container: &Container, agent: &AgentAddress) -> Result<(), Halt> {
        let begun = Instant::now();
        loop {
            // Asks with the token: what answers `/health` there may be somebody else.
            match self.worker.agents.status(agent).await {
                Ok(_) => return Ok(()),
                Err(fault) => self.unless_late(begun, &fault)?,
            }
            pause(AGENT_POLL).await;
            self.worker.driver.start(container).await?;
        }
    }

    async fn configure(&self, container: &Container, agent: &AgentAddress) -> Result<(), Halt> {
        let config = self.config(container);
        let begun = Instant::now();
        loop {
            let fault = match self.worker.agents.configure(agent, &config).await {
                Ok(()) => return Ok(()),
                Err(fault) => fault,
            };
            match &fault {
                AgentFault::Refused { status, .. } if status.is_server_error() => {}
                AgentFault::Refused { message, .. } if !fault.is_conflict() => {
                    return Err(Halt::Failed(message.clone()));
                }
                _ => {}
            }
            self.unless_late(begun, &fault)?;
            pause(READY_POLL).await;
            self.worker.driver.start(container).await?;
        }
    }

    fn config(&self, container: &Container) -> AgentConfig {
        let vmid = container.vmid;
        let memory_mb = self.operation.spec.memory_mib;
        let artifact_base_url = self.worker.settings.artifact_url.clone();
        match self.operation.spec.workload.clone() {
            Workload::Dev { runtime, version, enable_code_server } => AgentConfig::Dev(DevConfig {
                vmid,
                runtime,
                version,
                memory_mb,
                enable_code_server,
                artifact_base_url,
            }),
            Workload::Game { game, variant, version, world, .. } => AgentConfig::Game(GameConfig {
                vmid,
                game,
                variant,
                version,
                world,
                ports: container.game_ports().to_vec(),
                memory_mb,
                admin_user: None,
                admin_pass: None,
                crash_policy: CrashPolicy::default(),
                artifact_base_url,
            }),
        }
    }

    async fn wait_ready(&self, container: &Container, agent: &AgentAddress) -> Result<(), Halt> {
        let deadline = self.worker.settings.ready_deadline;
        let begun = Instant::now();
        let mut silent_since = None;
        loop {
            if self.worker.agents.ready(agent).await.is_ok_and(|answer| answer.ready) {
                return Ok(());
            }
            match self.worker.agents.status(agent).await {
                Ok(status) => {
                    silent_since = None;
                    match status.state {
                        AgentState::Error => {
                            let reason =
                                status.error.unwrap_or_else(|| "the agent gave up".to_owned());
                            return Err(Halt::Failed(reason));
                        }
                        // It died before it had written its configuration down.
                        AgentState::Idle => self.configure(container, agent).await?,
                        _ => self.say(status.install_step.as_deref().unwrap_or("starting")),
                    }
                }
                Err(fault) => {
                    self.unless_late(*silent_since.get_or_insert_with(Instant::now), &fault)?;
                    self.worker.driver.start(container).await?;
                }
            }
            if begun.elapsed() >= deadline {
                return Err(Halt::Failed(format!(
                    "the container was not ready within {} s",
                    deadline.as_secs()
                )));
            }
            pause(READY_POLL).await;
        }
    }

    /// Fails once an agent has not answered properly for too long.
    fn unless_late(&self, since: Instant, fault: &AgentFault) -> Result<(), Halt> {
        let limit = self.worker.settings.agent_deadline;
        if since.elapsed() < limit {
            return Ok(());
        }
        Err(Halt::Failed(match fault {
            AgentFault::Unreachable(_) => {
                format!("the container's agent could not be reached within {} s", limit.as_secs())
            }
            other => other.to_string(),
        }))
    }

    fn container(&self, ports: Vec<u16>) -> Container {
        let Operation { vmid, instance_id, .. } = *self.operation;
        Container { vmid, instance: instance_id, ports }
    }

    fn say(&self, message: &str) {
        self.say.send_if_modified(|said| {
            let news = said.as_deref() != Some(message);
            if news {
                *said = Some(message.to_owned());
            }
            news
        });
    }
}
