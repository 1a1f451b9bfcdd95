//! The agent's program, killed and started again, and the processes it leaves running.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::container::{Container, call, call_as, config, eventually, status_when};
use crate::store::Store;

const PROGRAM: &str = env!("CARGO_BIN_EXE_zlh-agent");

/// An agent that dies with the test.
pub(crate) struct Agent {
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
}

impl Agent {
    /// On a port that is the same after a restart.
    pub(crate) async fn start(container: &Container, port: u16) -> Self {
        let child = command(container, port).spawn().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let health = async || call_as(address, None, "GET", "/health", None).await.ok();
        eventually(health, Option::is_some).await;
        Self { child, address }
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    async fn action(&self, action: &str) -> (u16, Value) {
        call(self.address, "POST", &format!("/dev/codeserver/{action}"), None).await
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Ends everything of a container when its test ends, however it ends.
pub(crate) struct Down<'a>(pub(crate) &'a Container);

impl Drop for Down<'_> {
    fn drop(&mut self) {
        down(self.0);
    }
}

fn down(container: &Container) {
    assert!(command(container, 1).arg("down").status().unwrap().success());
}

fn command(container: &Container, port: u16) -> Command {
    let mut command = Command::new(PROGRAM);
    command
        .env_clear()
        .env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin")
        .envs(&container.vars)
        .env("ZLH_AGENT_LISTEN", format!("127.0.0.1:{port}"))
        .stderr(Stdio::null());
    command
}

/// A port that was free a moment ago: agents that follow each other must have the same.
pub(crate) fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn code_server_outlives_its_agent_and_is_found_again() {
    let (container, store, port) = (Container::new(), Store::start().await, free_port());
    let _down = Down(&container);
    let agent = Agent::start(&container, port).await;
    call(agent.address, "POST", "/config", Some(&config(&store.url()))).await;
    let status = status_when(agent.address, "running").await;
    assert_eq!(
        (&status["codeServerRunning"], &status["readySource"]),
        (&true.into(), &"codeserver-http".into())
    );
    let before = container.processes();
    assert_eq!(before.len(), 1);

    agent.kill();
    let agent = Agent::start(&container, port).await;

    status_when(agent.address, "running").await;
    assert_eq!(container.processes(), before);
    assert_eq!(agent.action("start").await.0, 200);
    assert_eq!(container.processes(), before, "it runs already");

    // The answer counts, not the health check.
    std::fs::write(container.path("home/dev/workspace/broken"), "").unwrap();
    let ready = eventually(
        async || call(agent.address, "GET", "/ready", None).await,
        |ready| ready.0 == 503,
    )
    .await;
    assert_eq!(ready.1["readyError"], "`/` answered 500 Internal Server Error");
    std::fs::remove_file(container.path("home/dev/workspace/broken")).unwrap();

    let (stopped, body) = agent.action("stop").await;
    assert_eq!((stopped, &body["codeServerRunning"]), (200, &false.into()));
    assert_eq!(container.everything(), Vec::<i32>::new());

    // It stays stopped.
    agent.kill();
    let agent = Agent::start(&container, port).await;
    status_when(agent.address, "running").await;
    assert_eq!(container.everything(), Vec::<i32>::new());
    assert_eq!(agent.action("restart").await.0, 200);
    assert_eq!(container.processes().len(), 1);
}

#[tokio::test]
async fn code_server_is_started_again_when_it_dies() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);
    let agent = Agent::start(&container, free_port()).await;
    call(agent.address, "POST", "/config", Some(&config(&store.url()))).await;
    status_when(agent.address, "running").await;
    let before = container.processes();

    assert!(Command::new("kill").args(["-9", &before[0].to_string()]).status().unwrap().success());

    let crashed = status_when(agent.address, "crashed").await;
    assert_eq!(crashed["error"], "code-server ended by itself (signal 9)");
    let status = status_when(agent.address, "running").await;
    assert_eq!((&status["crashCount"], &status["ready"]), (&1.into(), &true.into()));
    let after = container.processes();
    assert_eq!(after.len(), 1);
    assert_ne!(after, before);
}

#[tokio::test]
async fn a_code_server_that_does_not_come_up_after_a_restart_is_tried_again() {
    let (container, store, port) = (Container::new(), Store::start().await, free_port());
    let _down = Down(&container);
    let agent = Agent::start(&container, port).await;
    call(agent.address, "POST", "/config", Some(&config(&store.url()))).await;
    status_when(agent.address, "running").await;

    agent.kill();
    down(&container);
    let dies = container.path("home/dev/workspace/dies");
    std::fs::write(&dies, "").unwrap();
    let agent = Agent::start(&container, port).await;

    let crashed = status_when(agent.address, "crashed").await;
    assert_eq!(
        crashed["error"],
        "code-server ended while it was starting (exit code 1): not today"
    );
    assert_eq!(crashed["ready"], false);
    std::fs::remove_file(&dies).unwrap();
    let status = status_when(agent.address, "running").await;
    assert_eq!((&status["ready"], &status["error"]), (&true.into(), &Value::Null));
}

#[tokio::test]
async fn a_first_start_that_fails_is_made_good_by_a_later_one() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);
    let dies = container.path("home/dev/workspace/dies");
    std::fs::create_dir_all(dies.parent().unwrap()).unwrap();
    std::fs::write(&dies, "").unwrap();
    let agent = Agent::start(&container, free_port()).await;
    call(agent.address, "POST", "/config", Some(&config(&store.url()))).await;
    status_when(agent.address, "error").await;
    std::fs::remove_file(&dies).unwrap();

    assert_eq!(agent.action("start").await.0, 200);

    let status = call(agent.address, "GET", "/status", None).await.1;
    assert_eq!((&status["state"], &status["ready"]), (&"running".into(), &true.into()));
    assert_eq!(status["provisioningComplete"], true);
}

#[tokio::test]
async fn no_answer_waits_for_a_code_server_that_hangs() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);
    let agent = Agent::start(&container, free_port()).await;
    call(agent.address, "POST", "/config", Some(&config(&store.url()))).await;
    status_when(agent.address, "running").await;
    std::fs::write(container.path("home/dev/workspace/hangs"), "").unwrap();

    let mut slowest = std::time::Duration::ZERO;
    let ready = eventually(
        async || {
            let begun = std::time::Instant::now();
            let ready = call(agent.address, "GET", "/ready", None).await;
            call(agent.address, "GET", "/status", None).await;
            slowest = slowest.max(begun.elapsed());
            ready
        },
        |ready| ready.0 == 503,
    )
    .await;

    assert_eq!(ready.1["readyError"], "`/` does not answer: no answer in time");
    // The poller gives up after two seconds.
    assert!(slowest < std::time::Duration::from_secs(2), "{slowest:?}");
}

#[tokio::test]
async fn a_start_that_takes_longer_than_a_request_goes_on_without_it() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);
    let agent = Agent::start(&container, free_port()).await;
    call(agent.address, "POST", "/config", Some(&config(&store.url()))).await;
    status_when(agent.address, "running").await;
    let slow = container.path("home/dev/workspace/slow");
    std::fs::write(&slow, "").unwrap();

    let (status, body) = agent.action("restart").await;

    assert_eq!((status, &body["codeServerRunning"]), (202, &false.into()));
    assert_eq!(agent.action("start").await.0, 409, "it is still going on");
    std::fs::remove_file(&slow).unwrap();
    let running = async || call(agent.address, "GET", "/status", None).await.1;
    eventually(running, |status| status["codeServerRunning"] == true).await;
}

#[tokio::test]
async fn an_agent_killed_at_any_moment_leaves_nothing_doubled() {
    let (container, store, port) = (Container::new(), Store::start().await, free_port());
    let _down = Down(&container);
    let agent = Agent::start(&container, port).await;
    call(agent.address, "POST", "/config", Some(&config(&store.url()))).await;
    agent.kill();

    // Each life is a little longer than the one before, so they end in all the steps.
    for life in 0..12_u64 {
        let mut child = command(&container, port).spawn().unwrap();
        let end = tokio::time::timeout(
            std::time::Duration::from_millis(life * 15),
            std::future::pending::<()>(),
        );
        assert!(end.await.is_err());
        child.kill().unwrap();
        child.wait().unwrap();
    }

    let agent = Agent::start(&container, port).await;
    status_when(agent.address, "running").await;
    assert_eq!(container.processes().len(), 1);
    if container.vars.contains_key("ZLH_AGENT_UID") {
        assert_eq!(container.everything().len(), 2, "code-server and its helper");
    }
}

#[tokio::test]
async fn down_ends_the_agent_and_the_workload() {
    let (container, store) = (Container::new(), Store::start().await);
    let mut agent = Agent::start(&container, free_port()).await;
    call(agent.address, "POST", "/config", Some(&config(&store.url()))).await;
    status_when(agent.address, "running").await;
    assert_eq!(
        command(&container, 1).status().unwrap().code(),
        Some(3),
        "there is an agent already"
    );

    down(&container);

    assert!(agent.child.try_wait().unwrap().is_some());
    assert_eq!(container.everything(), Vec::<i32>::new());
    down(&container);
}
