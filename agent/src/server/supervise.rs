//! Watches the run that lives, and starts the server again as its crash policy says.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use zlh_agent_protocol::agent::LastCrash;

use super::crash::{End, classify, lines};
use super::launch::Launch;
use super::run::{Run, read_record};
use super::{Phase, memory};
use crate::agent::Agent;
use crate::blocking::blocking;
use crate::clock::{self, pause};
use crate::error::chain;
use crate::holder::wire::Record;

const OPERATION: &str = "server-recover";

/// Runs until it is dropped.
pub(crate) async fn supervise(agent: Arc<Agent>) {
    let mut phases = agent.server.subscribe();
    loop {
        let phase = phases.borrow_and_update().clone();
        match phase {
            Phase::Up(run) => {
                let (settles, late) = deadlines(&agent, &run);
                tokio::select! {
                    () = run.ended() => agent.server_ended(&run).await,
                    () = after(&run, settles) => agent.server_settled().await,
                    () = after(&run, late) => agent.server_is_late(&run).await,
                    _ = phases.changed() => {}
                }
            }
            Phase::Waiting(until) => {
                let wait = Duration::try_from(until - (agent.clock)()).unwrap_or_default();
                tokio::select! {
                    () = pause(wait) => agent.start_server_again(until).await,
                    _ = phases.changed() => {}
                }
            }
            // An operation ends it. One that was broken off leaves it to be noticed here.
            Phase::Ending(run) => tokio::select! {
                () = run.ended() => agent.server_was_ended(&run).await,
                _ = phases.changed() => {}
            },
            Phase::Down | Phase::GaveUp(_) => {
                if phases.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}

/// After how much uptime earlier crashes do not count, and a start has failed; none where that is so or does
/// not matter.
fn deadlines(agent: &Agent, run: &Run) -> (Option<Duration>, Option<Duration>) {
    let crashes = agent.saved.get().is_some_and(|saved| saved.life.crashes > 0);
    let launch = agent.server.launch();
    let seconds = |number: u32| Duration::from_secs(number.into());
    let settles = launch
        .as_ref()
        .filter(|_| crashes)
        .map(|launch| seconds(launch.config.crash_policy.reset_after_seconds));
    let late = launch
        .filter(|_| !run.was_ready())
        .map(|launch| seconds(launch.version.server.start_seconds));
    (settles, late)
}

async fn after(run: &Run, uptime: Option<Duration>) {
    match uptime {
        Some(uptime) => pause(uptime.saturating_sub(run.since.elapsed())).await,
        None => std::future::pending().await,
    }
}

impl Agent {
    /// The run ended by itself.
    async fn server_ended(self: &Arc<Self>, run: &Arc<Run>) {
        let Some(_operation) = self.operations.begin(OPERATION).await else { return };
        // Somebody asked it to end while this waited.
        if !matches!(self.server.phase(), Phase::Up(current) if Arc::ptr_eq(&current, run)) {
            return;
        }
        let Some(launch) = self.server.launch() else { return };
        let (state, id) = (self.server.state().to_owned(), run.id);
        let record = blocking(move || read_record(&state, id)).await;
        let out_of_memory = blocking(memory::kills).await > run.memory_kills;
        let uptime = run.since.elapsed();
        let next = self.server_crashed(&launch, record, uptime, out_of_memory).await;
        self.server.leave(run, next);
    }

    /// Writes down what is known of a crash, and says what follows. `uptime` is what the agent saw.
    pub(crate) async fn server_crashed(
        self: &Arc<Self>,
        launch: &Launch,
        record: Option<Record>,
        uptime: Duration,
        out_of_memory: bool,
    ) -> Phase {
        let now = (self.clock)();
        let (end, ended_at, uptime, tail) = match record {
            Some(record) => (
                End { exit_code: record.exit_code, signal: record.signal, out_of_memory },
                clock::from_ms(record.ended_at_ms).unwrap_or(now),
                Duration::from_millis(record.uptime_ms),
                lines(&record.tail),
            ),
            None => {
                // Its holder died, so nobody has ended what the server left behind, or the server itself.
                if let Err(error) = launch.tree().kill().await {
                    return Phase::GaveUp(error.to_string());
                }
                let tail = self.server.console.tail(16 * 1024);
                let end = End { out_of_memory, ..End::default() };
                (end, now, uptime, lines(&String::from_utf8_lossy(&tail)))
            }
        };
        let crash = LastCrash {
            time: clock::rfc3339(ended_at),
            exit_code: end.exit_code,
            signal: end.signal,
            uptime_seconds: uptime.as_secs(),
            class: classify(end, &tail, &launch.version.server.crash_hints),
            log_tail: tail,
        };
        let policy = launch.config.crash_policy.clone();
        let saved =
            self.save(move |saved| saved.life.crash(&policy, crash, clock::to_ms(ended_at))).await;
        if let Err(error) = saved {
            return Phase::GaveUp(format!("the crash cannot be saved: {error}"));
        }
        self.phase_at_rest()
    }

    /// What the saved state says of a server that does not run.
    pub(crate) fn phase_at_rest(&self) -> Phase {
        let life = self.saved.get().map(|saved| saved.life).unwrap_or_default();
        match (life.gave_up, life.next_start_ms.and_then(clock::from_ms)) {
            _ if life.stopped => Phase::Down,
            (Some(why), _) => Phase::GaveUp(why),
            (None, Some(at)) => Phase::Waiting(at),
            (None, None) => Phase::Down,
        }
    }

    async fn server_settled(self: &Arc<Self>) {
        if let Err(error) = self.save(|saved| saved.life.settle()).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "cannot forget earlier crashes"
            );
            // Not at once again: the disk is full, or worse.
            pause(Duration::from_secs(30)).await;
        }
    }

    /// It has not become ready in the time that its catalogue entry gives it: that is a crash, too.
    async fn server_is_late(self: &Arc<Self>, run: &Arc<Run>) {
        tracing::warn!("the server has not become ready in time");
        run.kill().await;
        run.ended().await;
    }

    async fn server_was_ended(self: &Arc<Self>, run: &Arc<Run>) {
        let Some(_operation) = self.operations.begin(OPERATION).await else { return };
        if matches!(self.server.phase(), Phase::Ending(current) if Arc::ptr_eq(&current, run)) {
            let saved = self.save(|saved| saved.life.running = false).await;
            if let Err(error) = saved {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot save an end");
            }
            self.server.leave(run, Phase::Down);
        }
    }

    async fn start_server_again(self: &Arc<Self>, at: OffsetDateTime) {
        let (Some(launch), Some(operation)) =
            (self.server.launch(), self.operations.begin(OPERATION).await)
        else {
            return;
        };
        // Somebody started or stopped it while this waited.
        if !matches!(self.server.phase(), Phase::Waiting(until) if until == at) {
            return;
        }
        let agent = Arc::clone(self);
        let started = self.run(operation, async move { agent.start_server(&launch).await });
        if let Ok(Some(Err(error))) = started.await {
            tracing::warn!("{}", chain(&error));
        }
    }

    /// Finds the server of an earlier agent, or what became of it; then starts it unless it shall not run.
    ///
    /// The caller holds the operation.
    pub(crate) async fn resume_server(
        self: &Arc<Self>,
        launch: &Arc<Launch>,
    ) -> Result<(), super::StartError> {
        let life = self.saved.get().map(|saved| saved.life).unwrap_or_default();
        let found =
            Run::find(self.server.state(), &self.server.console, &launch.version.server.readiness)
                .await;
        if let Some(run) = found.filter(|run| run.id == life.run) {
            if life.was_ready {
                run.note(Ok(()));
            }
            let run = Arc::new(run);
            if !life.stopped && !life.ending {
                self.server.enter(Phase::Up(run));
                return Ok(());
            }
            self.server.enter(Phase::Ending(run));
            self.end_server(launch, false).await?;
            return if life.stopped { Ok(()) } else { self.start_server(launch).await };
        }
        if life.stopped {
            return self.end_server(launch, true).await;
        }
        if life.ending {
            return self.start_server(launch).await;
        }
        if life.running {
            let (state, id) = (self.server.state().to_owned(), life.run);
            let record = blocking(move || read_record(&state, id)).await;
            let moved = life.boot != blocking(clock::boot).await;
            if record.is_some() || !moved {
                let next = self.server_crashed(launch, record, Duration::ZERO, false).await;
                self.server.enter(next);
                return Ok(());
            }
            // The machine went down with it; that is no fault of the server's.
            return self.start_server(launch).await;
        }
        match self.phase_at_rest() {
            Phase::Down => self.start_server(launch).await,
            phase => {
                self.server.enter(phase);
                Ok(())
            }
        }
    }

    pub(crate) fn next_start(&self) -> Option<OffsetDateTime> {
        match self.server.phase() {
            Phase::Waiting(until) => Some(until),
            _ => None,
        }
    }
}
