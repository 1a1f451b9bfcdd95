//! Starting and ending the server. Whoever starts or stops it holds the operation; a kill interrupts it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zlh_agent_protocol::agent::{AgentState, Power};

use super::launch::{Launch, SpecError};
use super::run::{Run, RunError};
use super::{Phase, seed};
use crate::agent::Agent;
use crate::blocking::blocking;
use crate::clock;
use crate::error::{ApiError, chain};
use crate::process::{Entry, StillAlive, signal};

/// How long a request waits: less than whoever sent it waits for the answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);
/// Between SIGKILL and the end of everything that the server started.
const KILL_LIMIT: Duration = Duration::from_secs(20);

/// The server does not run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    Leftovers(#[from] StillAlive),
    #[error("the server's files cannot be prepared")]
    Files(#[source] io::Error),
    #[error("the server's state cannot be saved")]
    Save(#[source] io::Error),
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PowerDone {
    /// It is so.
    Done,
    /// The server is in this state, and what was asked for goes on.
    Accepted(AgentState),
}

impl Agent {
    /// Does what the customer says, and remembers it.
    pub(crate) async fn power(self: &Arc<Self>, power: Power) -> Result<PowerDone, ApiError> {
        let launch = self
            .server
            .launch()
            .ok_or_else(|| ApiError::Conflict("no game is installed here yet".to_owned()))?;
        let operation = match power {
            Power::Start => self.begin("start")?,
            Power::Stop => self.begin("stop")?,
            Power::Restart => self.begin("restart")?,
            Power::Halt => self.begin("halt")?,
            Power::Kill => self.interrupt().await?,
        };
        let interrupted = CancellationToken::new();
        self.server.interrupt.send_replace(interrupted.clone());
        let agent = Arc::clone(self);
        let work = self.run(operation, async move {
            let work = agent.work(power, &launch);
            interrupted.run_until_cancelled(work).await.unwrap_or_else(|| {
                Err(ApiError::Conflict("the server was killed meanwhile".to_owned()))
            })
        });
        let Ok(done) = timeout(ANSWER_LIMIT, work).await else {
            return Ok(PowerDone::Accepted(self.server.phase().state()));
        };
        let stopping = || Err(ApiError::Unavailable("the agent is stopping".to_owned()));
        done.ok().flatten().unwrap_or_else(stopping)
    }

    /// Ends a start, stop or restart that runs now, and takes its place. An installation goes on.
    async fn interrupt(&self) -> Result<crate::operation::Operation, ApiError> {
        const POWER: [&str; 6] = ["start", "stop", "restart", "halt", "kill", "server-recover"];
        if let Some(other) = self.operations.current().filter(|kind| !POWER.contains(kind)) {
            return Err(ApiError::Conflict(format!("{other} is still running")));
        }
        self.server.interrupt.borrow().cancel();
        let turn = timeout(KILL_LIMIT, self.operations.begin("kill")).await;
        turn.ok()
            .flatten()
            .ok_or_else(|| ApiError::Conflict("another operation is still running".to_owned()))
    }

    async fn work(
        self: &Arc<Self>,
        power: Power,
        launch: &Arc<Launch>,
    ) -> Result<PowerDone, ApiError> {
        let saving =
            |error| ApiError::Internal(format!("the server's state cannot be saved: {error}"));
        match power {
            Power::Start => {
                if let Phase::Up(_) = self.server.phase() {
                    return Ok(PowerDone::Accepted(self.server.phase().state()));
                }
            }
            Power::Stop | Power::Kill => {
                // First: an agent that dies now goes on with it.
                self.save(|saved| saved.life.stopped = true).await.map_err(saving)?;
            }
            // After a halt it stays so until a run begins: the next agent begins one.
            Power::Restart | Power::Halt => {
                self.save(|saved| saved.life.ending = true).await.map_err(saving)?;
            }
        }
        if power != Power::Start {
            let killed = power == Power::Kill;
            self.end_server(launch, killed)
                .await
                .map_err(|error| ApiError::Unavailable(error.to_string()))?;
        }
        if matches!(power, Power::Stop | Power::Kill | Power::Halt) {
            return Ok(PowerDone::Done);
        }
        self.save(|saved| saved.life.begin_anew()).await.map_err(saving)?;
        match self.start_server(launch).await {
            Ok(()) => Ok(PowerDone::Accepted(self.server.phase().state())),
            Err(error) => Err(ApiError::Unavailable(chain(&error))),
        }
    }

    /// Begins a run. The caller holds the operation, and no run lives.
    ///
    /// # Errors
    ///
    /// The server is given up: what cannot even be started is not tried again by itself.
    pub(crate) async fn start_server(
        self: &Arc<Self>,
        launch: &Arc<Launch>,
    ) -> Result<(), StartError> {
        match self.begin_run(launch).await {
            Ok(run) => {
                self.server.enter(Phase::Up(Arc::new(run)));
                Ok(())
            }
            Err(error) => {
                let why = chain(&error);
                self.server.enter(Phase::GaveUp(why.clone()));
                self.save(move |saved| {
                    saved.life.running = false;
                    saved.life.give_up(&why);
                })
                .await
                .map_err(StartError::Save)?;
                Err(error)
            }
        }
    }

    async fn begin_run(self: &Arc<Self>, launch: &Arc<Launch>) -> Result<Run, StartError> {
        // What an earlier run left would hold its ports and its world.
        launch.tree().end().await?;
        let files = Arc::clone(launch);
        blocking(move || {
            let texts = files.files()?;
            seed::write(&files.folder, &texts, files.workload.ids).map_err(StartError::Files)
        })
        .await?;
        let boot = blocking(clock::boot).await;
        self.save(move |saved| saved.life.begin_run(boot)).await.map_err(StartError::Save)?;
        let id = self.saved.get().map(|saved| saved.life.run).unwrap_or_default();
        let (own, begin) = (Arc::clone(launch), self.server.console.end());
        let order = blocking(move || own.order(id, begin, std::path::Path::exists)).await?;
        Ok(Run::start(order, &self.server.console, &launch.version.server.readiness).await?)
    }

    /// Ends the run that lives, if one does: by its own commands, by a signal, and then by force.
    pub(crate) async fn end_server(
        self: &Arc<Self>,
        launch: &Arc<Launch>,
        at_once: bool,
    ) -> Result<(), StartError> {
        if let Some(run) = self.server.run() {
            self.server.enter(Phase::Ending(Arc::clone(&run)));
            if at_once || !ask(launch, &run).await? {
                force(launch, &run).await?;
            }
        } else {
            launch.tree().end().await?;
        }
        self.save(|saved| {
            saved.life.running = false;
            saved.life.next_start_ms = None;
            saved.life.gave_up = None;
        })
        .await
        .map_err(StartError::Save)?;
        self.server.enter(Phase::Down);
        Ok(())
    }
}

/// True when it has ended.
async fn ask(launch: &Launch, run: &Run) -> Result<bool, StartError> {
    let stop = &launch.version.server.stop;
    let commands = launch.stop_commands()?;
    let seconds = |number: u32| Duration::from_secs(number.into());
    if !commands.is_empty() {
        for line in commands {
            // One that does not read is sent a signal in time.
            run.input(format!("{line}\n"));
        }
        if timeout(seconds(stop.command_seconds), run.ended()).await.is_ok() {
            return Ok(true);
        }
    }
    tracing::info!("the server did not end by its own commands");
    run.signal(stop.signal).await;
    Ok(timeout(seconds(stop.signal_seconds), run.ended()).await.is_ok())
}

async fn force(launch: &Launch, run: &Run) -> Result<(), StartError> {
    run.kill().await;
    if timeout(KILL_LIMIT, run.ended()).await.is_err() {
        let holder = run.holder_pid();
        if let Some(holder) = blocking(move || Entry::read(holder)).await {
            signal(&holder, rustix::process::Signal::KILL);
        }
    }
    // Mostly nothing is left by now.
    Ok(launch.tree().kill().await?)
}
