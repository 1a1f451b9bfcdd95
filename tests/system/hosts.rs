//! More than one `zlh`: one after the other on the same listeners, and several at once on the same databases.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use http::Method;
use rustix::process::Signal;
use system_tests::databases::Databases;
use system_tests::stack::StackOptions;
use system_tests::{Stack, eventually};

const LIMIT: Duration = Duration::from_secs(60);
const STARTED: &str = "zlh_start_time_milliseconds";
const POLLED: &str = "zlh_agent_polls_total{outcome=\"online\"}";
/// As the tests' systems are set up.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

#[tokio::test]
async fn nobody_is_refused_while_another_program_takes_over() {
    let stack = Stack::start_without_containers().await;
    let before = stack.metric(STARTED).await.unwrap();
    let done = Arc::<AtomicBool>::default();
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (api, done) = (stack.api(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut count = 0_u32;
                while !done.load(Ordering::Relaxed) {
                    // Each on a connection of its own; one that is refused or cut off panics.
                    api.call(Method::GET, "/api/health", None, None).await.expect(200);
                    count += 1;
                }
                count
            })
        })
        .collect();

    for _ in 0..3 {
        let begun = stack.metric(STARTED).await.unwrap();
        stack.signal(Signal::HUP);
        let started = async || stack.metric(STARTED).await.unwrap_or_default();
        eventually(LIMIT, started, |started| *started > begun).await;
    }
    done.store(true, Ordering::Relaxed);

    assert!(stack.metric(STARTED).await.unwrap() > before);
    for client in clients {
        assert!(client.await.expect("every request was answered") > 0);
    }
}

#[tokio::test]
async fn before_a_stop_load_balancers_are_told() {
    let options = StackOptions::default().with("ZLH_DRAIN_DELAY_SECONDS", "3600");
    let mut stack = Stack::prepare(options);
    stack.restart().await;
    let ready = async || {
        let request = system_tests::http::request(Method::GET, "/readyz", &[], None);
        system_tests::http::send(stack.admin_listener(), request).await.unwrap().status
    };
    assert_eq!(ready().await, 200);

    stack.signal(Signal::TERM);

    eventually(LIMIT, ready, |status| *status == 503).await;
    stack.api().call(Method::GET, "/api/health", None, None).await.expect(200);
}

#[tokio::test]
async fn several_on_the_same_databases_share_the_work_and_take_over_from_each_other() {
    let databases = Databases::start().await;
    let options = StackOptions { databases: Some(databases), ..StackOptions::default() };
    let mut first = Stack::start_with(options).await;
    let session = first.api().register("ann").await;
    let vmid = session.create_dev(false).await;
    session.ready(vmid).await;
    let mut second = first.beside();
    second.restart().await;
    let there = second.api().login("ann").await;
    there.ready(vmid).await;

    // One of them polls the one agent, and no more often than one alone would.
    let polls = async || first.metric(POLLED).await.unwrap() + second.metric(POLLED).await.unwrap();
    let (begun, before) = (Instant::now(), polls().await);
    let after = eventually(LIMIT, polls, |polls| *polls >= before + 6).await;
    let least = POLL_INTERVAL.mul_f64(0.9) * u32::try_from(after - before - 1).unwrap();
    assert!(begun.elapsed() >= least, "{} polls in {:?}", after - before, begun.elapsed());

    // The second goes on alone: with the agent of the first, and with a container of its own.
    first.kill9().await;
    let before = second.metric(POLLED).await.unwrap();
    let polled = async || second.metric(POLLED).await.unwrap();
    eventually(LIMIT, polled, |polled| *polled > before).await;
    there.ready(vmid).await;
    let own = there.create_dev(false).await;
    assert_eq!((second.agents(own).len(), first.agents(vmid).len()), (1, 1));

    // What is on the machine of the first is deleted there, once it is back.
    let path = format!("/api/containers/{vmid}");
    let deletion = there.call(Method::DELETE, &path, None).await.expect(202).json();
    let operation = deletion["operationId"].as_str().unwrap().to_owned();
    there.delete(own).await;
    assert_eq!(there.operation(&operation).await["status"], "queued");
    assert_eq!(first.agents(vmid).len(), 1);
    first.restart().await;
    assert_eq!(there.operation_end(&operation).await["status"], "succeeded");
    assert_eq!(first.agents(vmid).len(), 0);
}

#[tokio::test]
async fn a_container_is_reached_through_any_machine() {
    let databases = Databases::start().await;
    let options =
        StackOptions { databases: Some(databases), gateway: true, ..StackOptions::default() };
    let mut first = Stack::start_with(options).await;
    let session = first.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let mut second = first.beside();
    second.restart().await;
    let there = second.api().login("ann").await;
    there.ready(vmid).await;
    let restart = format!("/api/dev/{vmid}/codeserver/restart");

    there.post(&restart).await.expect(200);
    let (token, url) = there.ide_token(vmid).await;
    assert!(url.starts_with(&format!("http://{}/", second.ide_host(vmid))), "{url}");
    let cookie = second.ide_cookie(vmid, &token).await;
    let open = async |stack: &Stack| stack.ide(vmid, "/", &[("cookie", &cookie)]).await;
    open(&second).await.expect(302);
    let mut socket = second.ide_websocket(vmid, &[("cookie", &cookie)]).await.expect("a WebSocket");
    assert!(!socket.closes_within(Duration::from_secs(1)).await, "closed by itself");

    // While its machine's zlh is away the container is out of reach, although it runs.
    first.terminate().await;
    assert!(socket.closes_within(Duration::from_secs(5)).await, "open without its machine");
    assert_eq!(first.code_servers(vmid).len(), 1);
    assert_eq!(open(&second).await.status, 503);
    let away = there.post(&restart).await;
    assert_eq!(away.status, 503, "{}", away.text());

    first.restart().await;
    open(&second).await.expect(302);
    there.post(&restart).await.expect(200);
}
