use std::sync::Mutex;

use http::StatusCode;
use zlh_agent_protocol::agent::{AgentConfig, AgentState, Ready, Status};
use zlh_agent_protocol::internal::{
    AgentRoute, HostPower, InstanceSpec, Machine, Operation, OperationKind, Outcome, Placement,
    Step as Recorded, Workload,
};
use zlh_ids::{ContainerType, InstanceId, LeaseId, Vmid};

use super::driver::{Container, DriverError, Found, NodeDriver};
use super::step::Step;
use super::supervisor::{Strays, Supervisor};
use super::*;
use crate::agent_client::{AgentAddress, AgentApi, AgentFault};
use crate::metrics::Metrics;

/// A world that does everything asked of it, but for one thing.
#[derive(Default)]
struct World {
    log: Mutex<Vec<String>>,
    fails: &'static str,
    lease_lost_at: &'static str,
    agents: Vec<AgentRoute>,
    found: Vec<Found>,
}

impl World {
    fn failing(fails: &'static str) -> Arc<Self> {
        Arc::new(Self { fails, ..Self::default() })
    }

    fn note(&self, what: &str) {
        self.log.lock().unwrap().push(what.to_owned());
    }

    fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }

    fn lease(&self, at: &str) -> Result<(), CallError> {
        match self.lease_lost_at == at {
            true => Err(status(StatusCode::CONFLICT, "lease lost")),
            false => Ok(()),
        }
    }

    fn drive(&self, what: &'static str) -> Result<(), DriverError> {
        self.note(what);
        match self.fails == what {
            true => Err(DriverError::new("no disk left", "ENOSPC")),
            false => Ok(()),
        }
    }
}

fn status(status: StatusCode, message: &str) -> CallError {
    CallError::Status { call: "/internal".to_owned(), status, message: message.to_owned() }
}

#[async_trait]
impl OperationApi for World {
    async fn claim(&self, _: &ClaimOperation) -> Result<ClaimedOperation, CallError> {
        Ok(ClaimedOperation { operation: None })
    }

    async fn heartbeat(&self, _: OperationId, _: &OperationProgress) -> Result<(), CallError> {
        self.lease("heartbeat")
    }

    async fn ports(&self, _: OperationId, _: &AllocatePorts) -> Result<AllocatedPorts, CallError> {
        match self.fails == "ports" {
            true => Err(status(StatusCode::SERVICE_UNAVAILABLE, "no port is free")),
            false => Ok(AllocatedPorts { ports: vec![50_000] }),
        }
    }

    async fn step(&self, _: OperationId, call: &RecordStep) -> Result<(), CallError> {
        self.lease(&call.step)?;
        self.note(&format!("record {}", call.step));
        Ok(())
    }

    async fn undo(&self, _: OperationId, call: &UndoOperation) -> Result<(), CallError> {
        self.note(&format!("undo because {}", call.error));
        Ok(())
    }

    async fn finish(&self, _: OperationId, call: &FinishOperation) -> Result<(), CallError> {
        self.note(match call.outcome {
            Outcome::Created(_) => "created",
            Outcome::Deleted => "deleted",
            Outcome::Undone => "undone",
        });
        Ok(())
    }

    async fn agents(&self) -> Result<Agents, CallError> {
        Ok(Agents { agents: self.agents.clone() })
    }
}

#[async_trait]
impl NodeDriver for World {
    async fn create(&self, _: &Container) -> Result<(), DriverError> {
        self.drive("create")
    }

    async fn start(&self, _: &Container) -> Result<(), DriverError> {
        self.drive("start")
    }

    async fn stop(&self, _: &Container) -> Result<(), DriverError> {
        self.drive("stop")
    }

    async fn remove(&self, _: &Container) -> Result<(), DriverError> {
        self.drive("remove")
    }

    fn placement(&self, _: &Container) -> Result<Placement, DriverError> {
        Ok(Placement { agent_address: "127.0.0.1:50000".to_owned(), ide_address: None })
    }

    async fn list(&self) -> Result<Vec<Found>, DriverError> {
        Ok(self.found.clone())
    }

    async fn lacks_boots(&self, _: &Container, boots: u32) -> Result<bool, DriverError> {
        Ok(boots > 3)
    }

    async fn revive(&self, container: &Container, _: u32) -> Result<bool, DriverError> {
        self.note(&format!("revive {} {:?}", container.vmid, container.ports));
        Ok(true)
    }

    async fn set_aside(&self, found: Found) -> Result<(), DriverError> {
        self.note(&format!("set aside {}", found.vmid));
        Ok(())
    }
}

#[async_trait]
impl AgentApi for World {
    async fn health(&self, _: &AgentAddress) -> Result<(), AgentFault> {
        Ok(())
    }

    async fn ready(&self, agent: &AgentAddress) -> Result<Ready, AgentFault> {
        let ready = !matches!(self.fails, "ready" | "install");
        Ok(Ready { vmid: agent.vmid, ready, ready_source: None, ready_error: None })
    }

    async fn status(&self, agent: &AgentAddress) -> Result<Status, AgentFault> {
        if self.fails == "agent" {
            return Err(AgentFault::Unreachable("no connection".to_owned()));
        }
        Ok(Status { vmid: agent.vmid, ..idle_status(self.fails == "install") })
    }

    async fn configure(&self, _: &AgentAddress, config: &AgentConfig) -> Result<(), AgentFault> {
        self.note("configure");
        match self.fails == "configure" {
            true => Err(AgentFault::Refused {
                status: StatusCode::BAD_REQUEST,
                message: format!("container {} cannot be that", config.vmid()),
            }),
            false => Ok(()),
        }
    }

    async fn halt(&self, agent: &AgentAddress) -> Result<bool, AgentFault> {
        self.note(&format!("halt {}", agent.vmid));
        match self.fails {
            "halt" => Err(AgentFault::Unreachable("no connection".to_owned())),
            _ => Ok(self.log().iter().filter(|line| line.starts_with("halt")).count() > 1),
        }
    }
}

fn idle_status(broken: bool) -> Status {
    Status {
        vmid: Vmid::new(1).unwrap(),
        container_type: None,
        state: if broken { AgentState::Error } else { AgentState::Installing },
        process_running: false,
        ready: false,
        ready_source: None,
        ready_error: None,
        last_ready_at: None,
        install_step: None,
        pid: None,
        uptime_seconds: None,
        next_start_at: None,
        crash_count: 0,
        last_crash: None,
        error: broken.then(|| "node.tar.gz: expected SHA-256 aa, found bb".to_owned()),
        runtime_installed: false,
        dev_provisioned: false,
        dev_ready_at: None,
        provisioning_complete: false,
        workspace_root: None,
        server_root: None,
        code_server_installed: false,
        code_server_running: false,
        operation_in_progress: false,
        operation_type: None,
        agent_version: "0".to_owned(),
        timestamp: String::new(),
    }
}

fn operation(kind: OperationKind, steps: &[Step], undoing: Option<&str>) -> Operation {
    Operation {
        id: OperationId::random(),
        kind,
        lease: LeaseId::random(),
        vmid: Vmid::new(6001).unwrap(),
        instance_id: InstanceId::random(),
        spec: InstanceSpec {
            workload: Workload::Dev {
                runtime: "node".to_owned(),
                version: "24".to_owned(),
                enable_code_server: true,
            },
            memory_mib: 512,
            cpu_cores: 1,
        },
        undoing: undoing.map(str::to_owned),
        steps: steps.iter().map(|step| Recorded { name: step.name().to_owned() }).collect(),
        ports: Vec::new(),
    }
}

async fn work(world: &Arc<World>, operation: Operation) -> Vec<String> {
    let worker = Worker {
        api: world.clone(),
        driver: world.clone(),
        agents: world.clone(),
        settings: WorkerSettings {
            agent_deadline: Duration::from_secs(20),
            ready_deadline: Duration::from_secs(600),
            artifact_url: "http://127.0.0.1:1".to_owned(),
        },
        metrics: Arc::default(),
    };
    worker.work(operation).await;
    world.log()
}

#[tokio::test(start_paused = true)]
async fn a_creation_records_each_step_before_it_acts() {
    let log = work(&World::failing(""), operation(OperationKind::Create, &[], None)).await;

    assert_eq!(
        log,
        [
            "record ports",
            "record container",
            "create",
            "record start",
            "start",
            "record wait-agent",
            "record configure",
            "configure",
            "record wait-ready",
            "created",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn whatever_fails_is_undone_in_reverse_and_said() {
    let hash = "node.tar.gz: expected SHA-256 aa, found bb";
    for (fails, said, undone) in [
        ("ports", "no port is free", &[][..]),
        ("create", "no disk left", &["remove"]),
        ("start", "no disk left", &["stop", "remove"]),
        ("agent", "the container's agent could not be reached within 20 s", &["stop", "remove"]),
        ("configure", "container 6001 cannot be that", &["stop", "remove"]),
        ("install", hash, &["stop", "remove"]),
        ("ready", "the container was not ready within 600 s", &["stop", "remove"]),
    ] {
        let log = work(&World::failing(fails), operation(OperationKind::Create, &[], None)).await;

        let reason = format!("undo because {said}");
        let at = log.iter().position(|entry| *entry == reason).unwrap_or_else(|| panic!("{log:?}"));
        let expected: Vec<&str> = undone.iter().copied().chain(["undone"]).collect();
        assert_eq!(log[at + 1..], expected, "{fails}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_at_any_step_is_continued_without_recording_it_again() {
    for done in 0..=Step::ALL.len() {
        let steps = &Step::ALL[..done];
        let log = work(&World::failing(""), operation(OperationKind::Create, steps, None)).await;

        assert_eq!(log.last().unwrap(), "created");
        for step in steps {
            assert!(!log.contains(&format!("record {}", step.name())), "{log:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_while_undoing_goes_on_undoing() {
    let steps = &Step::ALL[..3];

    let log = work(&World::failing(""), operation(OperationKind::Create, steps, Some("why"))).await;

    assert_eq!(log, ["stop", "remove", "undone"]);
}

#[tokio::test(start_paused = true)]
async fn a_deletion_removes_the_container() {
    let log = work(&World::failing(""), operation(OperationKind::Delete, &[], None)).await;

    assert_eq!(log, ["remove", "deleted"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_touched_once_the_lease_is_lost() {
    let world = Arc::new(World { lease_lost_at: "start", ..World::default() });

    let log = work(&world, operation(OperationKind::Create, &[], None)).await;

    assert_eq!(log, ["record ports", "record container", "create"]);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_is_refused_ends_the_work() {
    let world = Arc::new(World { lease_lost_at: "heartbeat", fails: "ready", ..World::default() });

    let log = work(&world, operation(OperationKind::Create, &[], None)).await;

    assert!(!log.iter().any(|entry| entry.starts_with("undo")), "{log:?}");
}

fn found(vmid: u32) -> Found {
    Found { vmid: Vmid::new(vmid).unwrap(), instance: Some(InstanceId::random()) }
}

fn supervisor(world: &Arc<World>, board: &Arc<Board>) -> Supervisor {
    Supervisor {
        api: world.clone(),
        driver: world.clone(),
        agents: world.clone(),
        board: Arc::clone(board),
        orphan_grace: Duration::from_secs(20),
        metrics: Arc::new(Metrics::default()),
    }
}

#[tokio::test(start_paused = true)]
async fn agents_that_ought_to_run_are_revived_unless_their_container_is_worked_on() {
    let (ours, busy) = (found(6001), found(6002));
    let route = |found: Found| AgentRoute {
        vmid: found.vmid,
        instance_id: found.instance.unwrap(),
        ctype: ContainerType::Dev,
        agent_address: "127.0.0.1:50007".to_owned(),
        power: HostPower::default(),
        ide_address: None,
        machine: Machine::default(),
    };
    let elsewhere = found(6003);
    let world = Arc::new(World {
        agents: vec![route(ours), route(busy), route(elsewhere)],
        found: vec![ours, busy],
        ..World::default()
    });
    let board = Board::new();
    let _place = board.begin(OperationId::random(), busy.vmid);

    supervisor(&world, &board).tick(&mut Strays::new()).await;

    assert_eq!(world.log(), ["revive 6001 [50007]"]);
}

#[tokio::test(start_paused = true)]
async fn a_game_is_halted_before_its_container_is_stopped() {
    let (on, off, anew) = (found(5001), found(5002), found(5003));
    let route = |found: Found, power| AgentRoute {
        vmid: found.vmid,
        instance_id: found.instance.unwrap(),
        ctype: ContainerType::Game,
        agent_address: "127.0.0.1:50007".to_owned(),
        power,
        ide_address: None,
        machine: Machine::default(),
    };
    for (found, power, fails, wanted) in [
        (on, HostPower::On { boots: 3 }, "", ["revive 5001 [50007]"].as_slice()),
        // What takes its time to save is asked again.
        (off, HostPower::Off, "", &["halt 5002", "halt 5002", "stop"]),
        (anew, HostPower::On { boots: 4 }, "", &["halt 5003", "halt 5003", "revive 5003 [50007]"]),
        // Where nobody answers, there is nothing to save.
        (off, HostPower::Off, "halt", &["halt 5002", "stop"]),
    ] {
        let agents = vec![route(found, power)];
        let world = Arc::new(World { agents, found: vec![found], fails, ..World::default() });

        supervisor(&world, &Board::new()).tick(&mut Strays::new()).await;

        assert_eq!(world.log(), wanted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_container_that_nobody_knows_is_set_aside_after_a_while() {
    let world = Arc::new(World { found: vec![found(6001)], ..World::default() });
    let board = Board::new();
    let supervisor = supervisor(&world, &board);
    let mut strays = Strays::new();

    // Operations may be there that were not claimed yet.
    supervisor.tick(&mut strays).await;
    tokio::time::advance(Duration::from_secs(60)).await;
    supervisor.tick(&mut strays).await;
    assert!(world.log().is_empty());

    board.set_drained(true);
    supervisor.tick(&mut strays).await;
    assert!(world.log().is_empty());
    tokio::time::advance(Duration::from_secs(20)).await;
    supervisor.tick(&mut strays).await;
    assert_eq!(world.log(), ["set aside 6001"]);
}
