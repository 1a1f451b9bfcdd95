//! What the agent says of its container, from memory.

use zlh_agent_protocol::agent::{AgentConfig, AgentState, Ready, Status};
use zlh_ids::ContainerType;

use super::Agent;
use crate::clock;
use crate::facts::Event;
use crate::server::Phase;

impl Agent {
    /// Whether the workload could do its work when it was last asked, a few seconds ago.
    pub(crate) fn ready(&self) -> Ready {
        let (source, outcome) = self.what_is_ready();
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

    /// What a game server is ready by, and whether it is.
    fn server_ready(&self) -> (Option<&'static str>, Result<(), String>) {
        let launch = self.server.launch();
        let source = launch.map(|launch| launch.version.server.readiness.source());
        let outcome = match self.server.phase() {
            Phase::Up(run) => run.readiness(),
            Phase::Ending(_) => Err("the server is ending".to_owned()),
            Phase::Waiting(_) => Err("the server ended by itself".to_owned()),
            Phase::GaveUp(why) => Err(why),
            Phase::Down => Err("the server is stopped".to_owned()),
        };
        (source, outcome)
    }

    fn what_is_ready(&self) -> (Option<&'static str>, Result<(), String>) {
        let facts = self.facts.read();
        let Some(saved) = self.saved.get() else {
            return (None, Err("there is no configuration yet".to_owned()));
        };
        if !facts.provisioning_complete {
            let step =
                facts.error.or(facts.install_step).unwrap_or_else(|| "provisioning".to_owned());
            return (None, Err(step));
        }
        if matches!(saved.config, AgentConfig::Game(_)) {
            return self.server_ready();
        }
        if !saved.has_code_server() || saved.code_server_stopped {
            return (Some("dev-provisioned"), Ok(()));
        }
        let process = self.code_server.desire().process;
        let not_running = || Err("code-server does not run".to_owned());
        (
            Some("codeserver-http"),
            process.map_or_else(not_running, |process| self.readiness.of(&process)),
        )
    }

    /// The server's phase, once it is installed; before that, and for a dev container, what the agent is at.
    fn server_phase(&self) -> Option<Phase> {
        let game = matches!(self.saved.get()?.config, AgentConfig::Game(_));
        (game && self.facts.read().provisioning_complete).then(|| self.server.phase())
    }

    pub(crate) fn state(&self) -> AgentState {
        self.server_phase().map_or_else(|| self.facts.read().state, |phase| phase.state())
    }

    fn error(&self) -> Option<String> {
        match self.server_phase() {
            None => self.facts.read().error,
            Some(Phase::GaveUp(why)) => Some(why),
            Some(_) => None,
        }
    }

    pub(crate) fn status(&self) -> Status {
        let ready = self.ready();
        let (facts, saved) = (self.facts.read(), self.saved.get());
        let running = self.code_server.desire().process.is_some();
        let operation = self.operations.current();
        let is_game = saved
            .as_ref()
            .is_some_and(|saved| saved.config.container_type() == ContainerType::Game);
        let server = self.server.run();
        let life =
            saved.as_ref().filter(|_| is_game).map(|saved| saved.life.clone()).unwrap_or_default();
        Status {
            vmid: self.config.vmid,
            container_type: saved.as_ref().map(|saved| saved.config.container_type()),
            state: self.state(),
            process_running: running || server.is_some(),
            ready: ready.ready,
            ready_source: ready.ready_source,
            ready_error: ready.ready_error,
            last_ready_at: facts.last_ready_at,
            install_step: facts.install_step,
            pid: server.as_ref().and_then(|run| u32::try_from(run.pid).ok()),
            uptime_seconds: server.map(|run| run.since.elapsed().as_secs()),
            next_start_at: self.next_start().map(clock::rfc3339),
            crash_count: if is_game { life.crashes } else { facts.crash_count },
            last_crash: life.last_crash,
            error: self.error(),
            runtime_installed: facts.runtime_installed,
            dev_provisioned: facts.dev_provisioned,
            dev_ready_at: saved.as_ref().and_then(|saved| saved.dev_ready_at.clone()),
            provisioning_complete: facts.provisioning_complete,
            workspace_root: saved
                .filter(|saved| saved.config.container_type() == ContainerType::Dev)
                .map(|_| self.layout.workspace().display().to_string()),
            server_root: is_game.then(|| self.layout.server().display().to_string()),
            code_server_installed: facts.code_server_installed,
            code_server_running: running,
            operation_in_progress: operation.is_some(),
            operation_type: operation.map(str::to_owned),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            timestamp: clock::text(&self.clock),
        }
    }
}
