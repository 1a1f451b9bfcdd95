//! What the agent says of its container, from memory.

use zlh_agent_protocol::agent::{Ready, Status};
use zlh_ids::ContainerType;

use super::Agent;
use crate::clock;
use crate::facts::Event;

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

    pub(crate) fn status(&self) -> Status {
        let ready = self.ready();
        let (facts, saved) = (self.facts.read(), self.saved.get());
        let running = self.code_server.desire().process.is_some();
        let operation = self.operations.current();
        Status {
            vmid: self.config.vmid,
            container_type: saved.as_ref().map(|saved| saved.config.container_type()),
            state: facts.state,
            process_running: running,
            ready: ready.ready,
            ready_source: ready.ready_source,
            ready_error: ready.ready_error,
            last_ready_at: facts.last_ready_at,
            install_step: facts.install_step,
            pid: None,
            uptime_seconds: None,
            next_start_at: None,
            crash_count: facts.crash_count,
            last_crash: None,
            error: facts.error,
            runtime_installed: facts.runtime_installed,
            dev_provisioned: facts.dev_provisioned,
            dev_ready_at: saved.as_ref().and_then(|saved| saved.dev_ready_at.clone()),
            provisioning_complete: facts.provisioning_complete,
            workspace_root: saved
                .filter(|saved| saved.config.container_type() == ContainerType::Dev)
                .map(|_| self.layout.workspace().display().to_string()),
            server_root: None,
            code_server_installed: facts.code_server_installed,
            code_server_running: running,
            operation_in_progress: operation.is_some(),
            operation_type: operation.map(str::to_owned),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            timestamp: clock::text(&self.clock),
        }
    }
}
