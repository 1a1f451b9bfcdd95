//! One container: what it shall be, what it is, and the operations that bring it there.

mod status;

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zlh_agent_protocol::agent::{AgentConfig, AgentState};

use crate::blocking::blocking;
use crate::clock::Clock;
use crate::code_server::{CodeServer, Launch};
use crate::config::Config;
use crate::error::{ApiError, chain};
use crate::facts::{Board, Event};
use crate::install::Installer;
use crate::layout::Layout;
use crate::limit::Limit;
use crate::operation::{Operation, Operations};
use crate::provision::{self, ProvisionError, provision};
use crate::readiness::Readiness;
use crate::saved::{Saved, SavedFile};
use crate::server::Server;
use crate::shell::Shell;

/// How long a request waits for code-server: less than whoever sent it waits for the answer. A start may take
/// a minute, and goes on.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// Console commands a second, and at once.
const COMMAND_RATE: f64 = 10.0;
const COMMAND_BURST: f64 = 30.0;
/// As many as a server's customers may have open; each holds a back-log's piece.
const MAX_ATTACHMENTS: usize = 30;

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
    pub(crate) readiness: Readiness,
    pub(crate) server: Server,
    pub(crate) shell: Shell,
    /// Lines for the server's console, by request.
    pub(crate) commands: Limit,
    /// WebSockets on the console.
    pub(crate) attachments: Arc<Semaphore>,
    /// Ends the installation that runs now.
    abort: Mutex<CancellationToken>,
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
            server: Server::new(layout.state()),
            shell: Shell::new(),
            commands: Limit::new(COMMAND_RATE, COMMAND_BURST),
            attachments: Arc::new(Semaphore::new(MAX_ATTACHMENTS)),
            abort: Mutex::default(),
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
            readiness: Readiness::default(),
            tasks: TaskTracker::new(),
        }
    }

    /// Takes a configuration: on disk before it is accepted, so that an agent that dies right after goes on
    /// with it. Waits for the disk.
    pub(crate) fn configure(self: &Arc<Self>, config: AgentConfig) -> Result<AgentState, ApiError> {
        provision::check(&config, self.config.vmid).map_err(ApiError::Invalid)?;
        let state = self.state();
        let same = self.saved.get().is_some_and(|saved| saved.config == config);
        if same && !matches!(state, AgentState::Idle | AgentState::Error) {
            return Ok(state);
        }
        let operation = self.begin("config")?;
        // Nothing is awaited from here on: a client that goes away cannot leave this half done.
        self.saved.set_config(config).map_err(|error| {
            ApiError::Internal(format!("the configuration cannot be saved: {error}"))
        })?;
        self.begin_provisioning(operation, false, false);
        Ok(AgentState::Installing)
    }

    /// Goes on with the configuration of an earlier life.
    pub(crate) fn resume(self: &Arc<Self>) {
        if let Some(saved) = self.saved.get()
            && let Some(operation) = self.operations.try_begin("config")
        {
            self.begin_provisioning(operation, saved.dev_ready_at.is_some(), true);
        }
    }

    /// `worked`: the same was provisioned in an earlier life; `resumed`: it was asked for in one.
    fn begin_provisioning(self: &Arc<Self>, operation: Operation, worked: bool, resumed: bool) {
        self.facts.post(Event::Accepted);
        let abort = CancellationToken::new();
        *self.abort.lock().unwrap_or_else(PoisonError::into_inner) = abort.clone();
        let agent = Arc::clone(self);
        self.run(operation, async move {
            let work = Box::pin(provision(&agent, resumed));
            let provisioned = abort.run_until_cancelled(work).await;
            match provisioned.unwrap_or(Err(ProvisionError::Aborted)) {
                // Why a server does not start is a matter of the server's.
                Ok(()) | Err(ProvisionError::Server(_)) => agent.facts.post(Event::Complete),
                // A machine that has just started is slow. It is tried again like one that crashed.
                Err(ProvisionError::CodeServer(error)) if worked => {
                    agent.facts.post(Event::Complete);
                    agent.facts.post(Event::Crashed(chain(&error)));
                }
                Err(error) => {
                    if matches!(error, ProvisionError::CodeServer(_)) {
                        agent.code_server.give_up();
                    }
                    agent.facts.post(Event::Failed(chain(&error)));
                }
            }
        });
    }

    /// Ends an installation that runs. What it had put in place stays.
    pub(crate) fn abort_install(&self) -> Result<(), ApiError> {
        if self.operations.current() != Some("config") {
            return Err(ApiError::Conflict("nothing is being installed".to_owned()));
        }
        self.abort.lock().unwrap_or_else(PoisonError::into_inner).cancel();
        Ok(())
    }

    /// Starts or stops code-server as the customer says, and remembers it. False when that goes on after
    /// [`ANSWER_LIMIT`].
    pub(crate) async fn code_server_action(
        self: &Arc<Self>,
        action: CodeServerAction,
    ) -> Result<bool, ApiError> {
        let wanted = self.saved.get().is_some_and(|saved| saved.has_code_server());
        let launch = self.launch().filter(|_| wanted);
        let launch =
            launch.ok_or_else(|| ApiError::Conflict("there is no code-server here".to_owned()))?;
        let operation = self.begin(action.operation())?;
        let agent = Arc::clone(self);
        let work = self.run(operation, async move {
            let stopped = action == CodeServerAction::Stop;
            agent.save(move |saved| saved.code_server_stopped = stopped).await.map_err(
                |error| ApiError::Internal(format!("the choice cannot be saved: {error}")),
            )?;
            let done = match action {
                CodeServerAction::Start => agent.code_server.ensure(&launch).await,
                CodeServerAction::Stop => agent.code_server.stop(&launch).await,
                CodeServerAction::Restart => match agent.code_server.stop(&launch).await {
                    Ok(()) => agent.code_server.ensure(&launch).await,
                    Err(error) => Err(error),
                },
            };
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
        });
        let Ok(done) = tokio::time::timeout(ANSWER_LIMIT, work).await else { return Ok(false) };
        let stopping = || Err(ApiError::Unavailable("the agent is stopping".to_owned()));
        done.ok().flatten().unwrap_or_else(stopping).map(|()| true)
    }

    /// Changes what survives a restart.
    pub(crate) async fn save(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Saved) + Send + 'static,
    ) -> io::Result<()> {
        let agent = Arc::clone(self);
        blocking(move || agent.saved.update(change)).await
    }

    /// Runs an operation to its end, whoever waits for it. None if it panicked or the agent is stopping.
    pub(crate) fn run<T: Send + 'static>(
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

    pub(crate) fn begin(&self, kind: &'static str) -> Result<Operation, ApiError> {
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

    pub(crate) async fn shorten_log(&self) {
        let Some(launch) = self.launch() else { return };
        if let Err(error) = blocking(move || launch.shorten_log()).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot shorten code-server's log"
            );
        }
    }
}
