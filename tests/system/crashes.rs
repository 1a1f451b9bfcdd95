//! Power failures, at the worst moments.

use std::time::Duration;

use system_tests::api::Session;
use system_tests::processes::pids;
use system_tests::{Stack, eventually};

const LIMIT: Duration = Duration::from_secs(60);

/// Waits until an operation has got as far as one of these phases.
pub(crate) async fn reaches(session: &Session, operation: &str, phases: &[&str]) {
    let phase = async || session.operation(operation).await;
    let far_enough = |operation: &serde_json::Value| {
        operation["phase"].as_str().is_some_and(|phase| phases.contains(&phase))
            || operation["status"] == "succeeded"
    };
    eventually(LIMIT, phase, far_enough).await;
}

#[tokio::test]
async fn a_creation_survives_the_death_of_zlh_at_any_step() {
    let mut stack = Stack::start().await;
    let session = stack.api().register("ann").await;

    for phases in [
        [].as_slice(),
        &["container", "start", "wait-agent", "configure", "wait-ready"],
        &["wait-agent", "configure", "wait-ready"],
        &["wait-ready"],
    ] {
        let started = session.start_dev(true).await;
        if !phases.is_empty() {
            reaches(&session, &started.operation, phases).await;
        }
        stack.kill9().await;
        stack.restart().await;

        let operation = session.operation_end(&started.operation).await;

        assert_eq!(operation["status"], "succeeded", "killed at {phases:?}: {operation:#}");
        session.ready(started.vmid).await;
        let processes = stack.processes(started.vmid);
        assert_eq!(stack.agents(started.vmid).len(), 1, "killed at {phases:?}: {processes:#?}");
        assert_eq!(
            stack.code_servers(started.vmid).len(),
            1,
            "killed at {phases:?}: {processes:#?}"
        );
        session.delete(started.vmid).await;
    }
}

#[tokio::test]
async fn a_deletion_survives_the_death_of_zlh() {
    let mut stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(false).await;

    let reply = session
        .call(http::Method::DELETE, &format!("/api/instances/{vmid}"), None)
        .await
        .expect(202);
    stack.kill9().await;
    stack.restart().await;

    let operation = session.operation_end(reply.json()["operationId"].as_str().unwrap()).await;
    assert_eq!(operation["status"], "succeeded", "{operation:#}");
    assert_eq!(stack.processes(vmid), []);
    assert!(!stack.container(vmid).exists());
}

#[tokio::test]
async fn what_runs_is_found_again_after_the_death_of_zlh() {
    let mut stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let cookie = stack.ide_cookie(vmid, &session.ide_token(vmid).await.0).await;
    let (agents, code_servers) = (stack.agents(vmid), stack.code_servers(vmid));

    stack.kill9().await;
    stack.restart().await;

    session.ready(vmid).await;
    assert_eq!(pids(&stack.agents(vmid)), pids(&agents));
    assert_eq!(pids(&stack.code_servers(vmid)), pids(&code_servers));
    // The browser's cookie still opens it.
    stack.ide(vmid, "/", &[("cookie", &cookie)]).await.expect(302);
}

#[tokio::test]
async fn the_death_of_an_agent_does_not_touch_code_server() {
    let stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    session.ready(vmid).await;
    let agent = stack.agents(vmid).remove(0);
    let code_servers = stack.code_servers(vmid);
    let cookie = stack.ide_cookie(vmid, &session.ide_token(vmid).await.0).await;
    let mut socket = stack.ide_websocket(vmid, &[("cookie", &cookie)]).await.expect("a WebSocket");

    agent.kill();

    let agents = async || stack.agents(vmid);
    eventually(LIMIT, agents, |agents| agents.len() == 1 && agents[0].pid != agent.pid).await;
    session.ready(vmid).await;
    assert_eq!(pids(&stack.code_servers(vmid)), pids(&code_servers));
    assert!(!socket.closes_within(Duration::from_secs(2)).await, "the WebSocket was closed");
    stack.ide(vmid, "/", &[("cookie", &cookie)]).await.expect(302);
}

#[tokio::test]
async fn a_code_server_that_dies_is_started_again() {
    let stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let before = stack.code_servers(vmid).remove(0);

    before.kill();

    let code_servers = async || stack.code_servers(vmid);
    eventually(Duration::from_secs(120), code_servers, |now| {
        now.len() == 1 && now[0].pid != before.pid
    })
    .await;
    session.ready(vmid).await;
}
