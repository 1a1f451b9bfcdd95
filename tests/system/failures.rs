//! Creations that cannot succeed, and one that only looks so.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use serde_json::json;
use system_tests::api::Session;
use system_tests::{Stack, StackOptions, config, eventually, ports};

const LIMIT: Duration = Duration::from_secs(30);

/// No process, no folder, and after a while not even the list has it.
pub(crate) async fn nothing_is_left(stack: &Stack, vmid: u64) {
    let left = async || (stack.container(vmid).exists(), stack.processes(vmid));
    eventually(LIMIT, left, |(folder, processes)| !folder && processes.is_empty()).await;
}

async fn fails(session: &Session) -> (u64, String) {
    let started = session.start_dev(false).await;
    let operation = session.operation_end(&started.operation).await;
    assert_eq!(operation["status"], "failed", "{operation:#}");
    (started.vmid, operation["error"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn an_agent_that_cannot_be_reached_fails_the_creation_and_everything_is_undone() {
    // A program that ends at once in place of the agent, and one port: it must be given back.
    let port = ports::free().to_string();
    let options = StackOptions::default()
        .with("ZLH_AGENT_BINARY", config::zlh().to_string_lossy())
        .with("ZLH_PORT_RANGE", format!("{port}-{port}"))
        .with("ZLH_AGENT_DEADLINE_SECONDS", "3");
    let stack = Stack::start_with(options).await;
    let session = stack.api().register("ann").await;

    let (first, error) = fails(&session).await;
    let (second, again) = fails(&session).await;

    assert_eq!(error, "the container's agent could not be reached within 3 s");
    assert_eq!(again, error, "the port was free again");
    assert_ne!(first, second, "a number rests after it was freed");
    for vmid in [first, second] {
        nothing_is_left(&stack, vmid).await;
        assert_eq!(session.get(&format!("/api/instances/{vmid}")).await.status, 404);
    }
    assert_eq!(session.get("/api/instances").await.expect(200).json()["rows"], json!([]));
}

#[tokio::test]
async fn a_port_that_somebody_else_has_fails_one_creation_and_not_the_next() {
    let (foreign, next) = loop {
        let foreign = TcpListener::bind((Ipv4Addr::LOCALHOST, ports::free())).unwrap();
        let next = foreign.local_addr().unwrap().port().saturating_add(1);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, next)).is_ok() {
            break (foreign, next);
        }
    };
    let taken = foreign.local_addr().unwrap().port();
    let options = StackOptions::default().with("ZLH_PORT_RANGE", format!("{taken}-{next}"));
    let stack = Stack::start_with(options).await;
    let session = stack.api().register("ann").await;

    let (vmid, error) = fails(&session).await;

    assert!(error.contains(&format!("port {taken}")) && error.contains("is taken"), "{error}");
    nothing_is_left(&stack, vmid).await;
    session.create_dev(false).await;
}

#[tokio::test]
async fn a_creation_survives_the_death_of_its_agent() {
    let stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let started = session.start_dev(true).await;
    let agents = async || stack.agents(started.vmid);
    let first = eventually(LIMIT, agents, |agents| agents.len() == 1).await.remove(0);

    first.kill();

    let second =
        eventually(LIMIT, agents, |agents| agents.len() == 1 && agents[0].pid != first.pid).await;
    second[0].kill();
    let operation = session.operation_end(&started.operation).await;
    assert_eq!(operation["status"], "succeeded", "{operation:#}");
    session.ready(started.vmid).await;
    assert_eq!(stack.agents(started.vmid).len(), 1);
    assert_eq!(stack.code_servers(started.vmid).len(), 1);
}
