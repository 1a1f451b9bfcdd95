//! One container: what it shall be, what it is, and the operations that bring it there.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::FutureExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zlh_agent_protocol::agent::{AgentConfig, AgentState, Ready, Status};
use zlh_ids::ContainerType;

use crate::clock::{self, Clock};
use crate::code_server::{CodeServer, Launch, READY_LIMIT, page};
use crate::config::Config;
use crate::error::{ApiError, chain};
use crate::facts::{Board, Event};
use crate::install::Installer;
use crate::layout::Layout;
use crate::operation::{Operation, Operations};
use crate::provision::{self, provision};
use crate::saved::SavedFile;

/// How long the answer to "is it ready" may be repeated.
const READY_CACHE: Duration = Duration::from_secs(2);

/// The agent's state; every part of it may be used from any task.
pub(crate) struct Agent {
    pub(crate) config: Config,
    pub(crate) layout: Layout,
    pub(crate) clock: Clock,
    pub(crate) saved: SavedFile,
    pub(crate) facts: Board,
    pub(crate) operations: Operations,
    pub(crate) installer: Installer,
    pub(crate) code_server: CodeServer,
    /// How code-server is started, once it is installed.
    pub(crate) launch: Mutex<Option<Arc<Launch>>>,
    readiness: tokio::sync::Mutex<Option<(Instant, Result<(), String>)>>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stopping: CancellationToken,
}

/// What can be done to code-server by request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CodeServerAction {
    Start,
    Stop,
    Restart,
}

impl CodeServerAction {
    fn operation(self) -> &'static str {
        match self {
            Self::Start => "codeserver-start",
            Self::Stop => "codeserver-stop",
            Self::Restart => "codeserver-restart",
        }
    }
}

impl Agent {
    pub(crate) fn new(
        config: Config,
        layout: Layout,
        clock: Clock,
        saved: SavedFile,
        installer: Installer,
    ) -> Self {
        Self {
            config,
            layout,
            clock,
            saved,
            facts: Board::default(),
            operations: Operations::new(),
            stopping: installer.stopping.clone(),
            installer,
            code_server: CodeServer::default(),
            launch: Mutex::default(),
            readiness: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Takes a configuration: on disk before it is accepted, so that an agent that dies right after goes on
    /// with it.
    pub(crate) fn configure(self: &Arc<Self>, config: AgentConfig) -> Result<AgentState, ApiError> {
        provision::check(&config, self.config.vmid).map_err(ApiError::Invalid)?;
        let state = self.facts.read().state;
        let same = self.saved.get().is_some_and(|saved| saved.config == config);
        if same
            && matches!(state, AgentState::Running | AgentState::Crashed | AgentState::Installing)
        {
            return Ok(state);
        }
        let operation = self.begin("config")?;
        // Nothing is awaited from here on: a client that goes away cannot leave this half done.
        self.saved.set_config(config).map_err(|error| {
            ApiError::Internal(format!("the configuration cannot be saved: {error}"))
        })?;
        self.begin_provisioning(operation);
        Ok(AgentState::Installing)
    }

    /// Goes on with the configuration of an earlier life.
    pub(crate) fn resume(self: &Arc<Self>) {
        if self.saved.get().is_some()
            && let Some(operation) = self.operations.try_begin("config")
        {
            self.begin_provisioning(operation);
        }
    }

    fn begin_provisioning(self: &Arc<Self>, operation: Operation) {
        self.facts.post(Event::Accepted);
        let agent = Arc::clone(self);
        self.run(operation, async move {
            match provision(&agent).await {
                Ok(()) => agent.facts.post(Event::Complete),
                Err(error) => agent.facts.post(Event::Failed(chain(&error))),
            }
        });
    }

    /// Starts or stops code-server as the customer says, and remembers it.
    pub(crate) async fn code_server_action(
        self: &Arc<Self>,
        action: CodeServerAction,
    ) -> Result<(), ApiError> {
        let wanted = self.saved.get().is_some_and(|saved| saved.config.enable_code_server);
        let launch = self.launch().filter(|_| wanted);
        let launch =
            launch.ok_or_else(|| ApiError::Conflict("there is no code-server here".to_owned()))?;
        let operation = self.begin(action.operation())?;
        let agent = Arc::clone(self);
        self.run(operation, async move {
            let stopped = action == CodeServerAction::Stop;
            agent.saved.update(|saved| saved.code_server_stopped = stopped).map_err(|error| {
                ApiError::Internal(format!("the choice cannot be saved: {error}"))
            })?;
            let done = match action {
                CodeServerAction::Start => agent.code_server.ensure(&launch).await,
                CodeServerAction::Stop => agent.code_server.stop(&launch).await,
                CodeServerAction::Restart => match agent.code_server.stop(&launch).await {
                    Ok(()) => agent.code_server.ensure(&launch).await,
                    Err(error) => Err(error),
                },
            };
            agent.forget_readiness().await;
            match done {
                Ok(()) => {
                    agent.facts.post(Event::Recovered);
                    Ok(())
                }
                Err(error) => {
                    let error = chain(&error);
                    agent.facts.post(Event::Crashed(error.clone()));
                    Err(ApiError::Unavailable(error))
                }
            }
        })
        .await
        .ok()
        .flatten()
        .unwrap_or_else(|| Err(ApiError::Unavailable("the agent is stopping".to_owned())))
    }

    /// Runs an operation to its end, whoever waits for it. None if it panicked or the agent is stopping.
    fn run<T: Send + 'static>(
        self: &Arc<Self>,
        operation: Operation,
        work: impl Future<Output = T> + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let agent = Arc::clone(self);
        self.tasks.spawn(async move {
            let _operation = operation;
            match agent.stopping.run_until_cancelled(AssertUnwindSafe(work).catch_unwind()).await {
                None => None,
                Some(Ok(done)) => Some(done),
                Some(Err(_)) => {
                    agent.facts.post(Event::Failed(
                        "a bug ended the operation; the log has it".to_owned(),
                    ));
                    None
                }
            }
        })
    }

    fn begin(&self, kind: &'static str) -> Result<Operation, ApiError> {
        self.operations.try_begin(kind).ok_or_else(|| {
            let current = self.operations.current().unwrap_or("another operation");
            ApiError::Conflict(format!("{current} is still running"))
        })
    }

    pub(crate) fn launch(&self) -> Option<Arc<Launch>> {
        self.launch.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// code-server was found to have ended although it shall run.
    pub(crate) fn code_server_ended(&self, how: Option<&str>) {
        let how = how.unwrap_or("nobody saw how");
        self.facts.post(Event::Crashed(format!("code-server ended by itself ({how})")));
    }

    pub(crate) fn code_server_settled(&self) {
        self.facts.post(Event::Settled);
    }

    /// Starts code-server again unless it runs by now, or shall not run any more.
    pub(crate) async fn recover_code_server(self: &Arc<Self>) {
        let (Some(launch), Some(operation)) =
            (self.launch(), self.operations.begin("codeserver-recover").await)
        else {
            return;
        };
        let desire = self.code_server.desire();
        if !desire.wanted || desire.process.is_some() {
            return;
        }
        let agent = Arc::clone(self);
        let recovery = self.run(operation, async move {
            match agent.code_server.ensure(&launch).await {
                Ok(()) => agent.facts.post(Event::Recovered),
                Err(error) => agent.facts.post(Event::Crashed(chain(&error))),
            }
        });
        // Its outcome is in the facts.
        let _ = recovery.await;
    }

    pub(crate) fn shorten_log(&self) {
        if let Some(Err(error)) = self.launch().map(|launch| launch.shorten_log()) {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot shorten code-server's log"
            );
        }
    }

    /// Whether the workload can do its work now: asked anew, or at most [`READY_CACHE`] ago.
    pub(crate) async fn readiness(&self) -> Ready {
        let (source, outcome) = self.check_readiness().await;
        if outcome.is_ok() {
            self.facts.post(Event::Ready(clock::text(&self.clock)));
        }
        Ready {
            vmid: self.config.vmid,
            ready: outcome.is_ok(),
            ready_source: source.map(str::to_owned),
            ready_error: outcome.err(),
        }
    }

    async fn check_readiness(&self) -> (Option<&'static str>, Result<(), String>) {
        let facts = self.facts.read();
        let Some(saved) = self.saved.get() else {
            return (None, Err("there is no configuration yet".to_owned()));
        };
        if !facts.provisioning_complete {
            let step =
                facts.error.or(facts.install_step).unwrap_or_else(|| "provisioning".to_owned());
            return (None, Err(step));
        }
        if !saved.config.enable_code_server || saved.code_server_stopped {
            return (Some("dev-provisioned"), Ok(()));
        }
        (Some("codeserver-http"), self.check_code_server().await)
    }

    async fn check_code_server(&self) -> Result<(), String> {
        let running = self.code_server.desire().process.is_some();
        let Some(launch) = self.launch().filter(|_| running) else {
            return Err("code-server does not run".to_owned());
        };
        // Held while asking, so that many callers ask once.
        let mut cached = self.readiness.lock().await;
        if let Some((at, outcome)) = &*cached
            && at.elapsed() < READY_CACHE
        {
            return outcome.clone();
        }
        let outcome = page(&launch.endpoint(), READY_LIMIT).await.map_err(|error| chain(&error));
        *cached = Some((Instant::now(), outcome.clone()));
        outcome
    }

    async fn forget_readiness(&self) {
        *self.readiness.lock().await = None;
    }

    pub(crate) async fn status(&self) -> Status {
        let ready = self.readiness().await;
        let (facts, saved) = (self.facts.read(), self.saved.get());
        let running = self.code_server.desire().process.is_some();
        let operation = self.operations.current();
        Status {
            vmid: self.config.vmid,
            container_type: saved.as_ref().map(|saved| saved.config.container_type),
            state: facts.state,
            process_running: running,
            ready: ready.ready,
            ready_source: ready.ready_source,
            ready_error: ready.ready_error,
            last_ready_at: facts.last_ready_at,
            install_step: facts.install_step,
            crash_count: facts.crash_count,
            error: facts.error,
            runtime_installed: facts.runtime_installed,
            dev_provisioned: facts.dev_provisioned,
            dev_ready_at: saved.as_ref().and_then(|saved| saved.dev_ready_at.clone()),
            provisioning_complete: facts.provisioning_complete,
            workspace_root: saved
                .filter(|saved| saved.config.container_type == ContainerType::Dev)
                .map(|_| self.layout.workspace().display().to_string()),
            code_server_installed: facts.code_server_installed,
            code_server_running: running,
            operation_in_progress: operation.is_some(),
            operation_type: operation.map(str::to_owned),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            timestamp: clock::text(&self.clock),
        }
    }
}
