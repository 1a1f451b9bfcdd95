//! A game server: installed, started, stopped, killed, crashed, and found again by the next agent.

use std::fs;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};

use crate::container::{Container, call, eventually, status_when};
use crate::lifecycle::{Agent, Down, free_port};
use crate::store::Store;

pub(crate) fn game(store: &str, more: Value) -> Value {
    let mut config = json!({
        "vmid": 6001,
        "container_type": "game",
        "game": "parlour",
        "variant": "vanilla",
        "version": "1",
        "world": "eden",
        "ports": [50000],
        "memory_mb": 128,
        "artifact_base_url": store,
    });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

async fn running(container: &Container, store: &Store, more: Value) -> (Agent, Value) {
    let agent = Agent::start(container, free_port()).await;
    let (status, body) = post(&agent, "/config", Some(&game(&store.url(), more))).await;
    assert_eq!((status, &body["state"]), (202, &"installing".into()), "{body}");
    let status = status_when(agent.address, "running").await;
    (agent, status)
}

pub(crate) async fn post(agent: &Agent, path: &str, body: Option<&Value>) -> (u16, Value) {
    call(agent.address, "POST", path, body).await
}

pub(crate) async fn say(agent: &Agent, command: &str) {
    let (status, body) = post(agent, "/console/command", Some(&json!({"command": command}))).await;
    assert_eq!((status, body), (202, json!({"ok": true})));
}

async fn status(agent: &Agent) -> Value {
    call(agent.address, "GET", "/status", None).await.1
}

fn pid(status: &Value) -> i32 {
    i32::try_from(status["pid"].as_i64().unwrap()).unwrap()
}

fn kill(pid: i32) {
    let killed = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(killed.unwrap().success());
}

/// All processes of the server's user, or of its folder where there is none.
fn left(container: &Container) -> Vec<i32> {
    container.everything()
}

#[tokio::test]
async fn a_game_is_installed_played_stopped_and_started_again() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);

    let (agent, up) = running(&container, &store, json!({})).await;

    assert_eq!((&up["ready"], &up["readySource"]), (&true.into(), &"log-pattern".into()));
    assert_eq!((&up["processRunning"], &up["containerType"]), (&true.into(), &"game".into()));
    assert!(up["lastReadyAt"].is_string() && up["uptimeSeconds"].is_number(), "{up}");
    assert_eq!(up["serverRoot"], container.path("srv/game").display().to_string());
    let ready = call(agent.address, "GET", "/ready", None).await;
    assert_eq!((ready.0, &ready.1["readySource"]), (200, &"log-pattern".into()));
    let log = call(agent.address, "GET", "/install/log", None).await.1;
    assert!(log["lines"].as_array().unwrap().contains(&"install parlour 1".into()), "{log}");
    let settings = container.path("srv/game/settings.txt");
    assert_eq!(fs::metadata(settings).unwrap().uid(), container.uid());

    assert_eq!(post(&agent, "/stop", None).await.0, 204);

    let down = status(&agent).await;
    assert_eq!((&down["state"], &down["ready"]), (&"stopped".into(), &false.into()));
    assert_eq!((&down["crashCount"], &down["lastCrashTime"]), (&0.into(), &Value::Null));
    assert_eq!(fs::read_to_string(container.path("srv/game/world.sav")).unwrap(), "saved\n");
    assert_eq!(left(&container), Vec::<i32>::new(), "not even what it left behind");
    assert_eq!(post(&agent, "/stop", None).await.0, 204, "it is so already");
    let said = post(&agent, "/console/command", Some(&json!({"command": "hello"}))).await;
    assert_eq!((said.0, &said.1["code"]), (409, &"conflict".into()));

    let same = post(&agent, "/config", Some(&game(&store.url(), json!({})))).await;
    assert_eq!((same.0, &same.1["state"]), (202, &"stopped".into()), "nothing new");

    let (started, body) = post(&agent, "/start", None).await;
    assert_eq!((started, &body["state"]), (202, &"starting".into()));
    let again = status_when(agent.address, "running").await;
    assert_ne!(again["pid"], up["pid"]);
    assert_eq!(post(&agent, "/restart", None).await.0, 202);
    let restarted = status_when(agent.address, "running").await;
    assert_ne!(restarted["pid"], again["pid"]);
    assert_eq!(restarted["crashCount"], 0, "what was asked for is no crash");

    let other = game(&store.url(), json!({"world": "nod"}));
    assert_eq!(post(&agent, "/config", Some(&other)).await.0, 202);
    let moved = eventually(
        async || status(&agent).await,
        |status| status["state"] == "running" && status["pid"] != restarted["pid"],
    )
    .await;
    assert_eq!(moved["crashCount"], 0);

    assert_eq!(post(&agent, "/kill", None).await.0, 204);
    assert_eq!(status(&agent).await["state"], "stopped");
    assert_eq!(left(&container), Vec::<i32>::new());
}

#[tokio::test]
async fn a_server_outlives_its_agent() {
    let (container, store, port) = (Container::new(), Store::start().await, free_port());
    let _down = Down(&container);
    let agent = Agent::start(&container, port).await;
    post(&agent, "/config", Some(&game(&store.url(), json!({})))).await;
    let before = status_when(agent.address, "running").await;

    agent.kill();
    let agent = Agent::start(&container, port).await;
    let after = status_when(agent.address, "running").await;
    assert_eq!((&after["pid"], &after["crashCount"]), (&before["pid"], &0.into()));
    assert_eq!(after["ready"], true, "nobody will say again that it is ready");
    say(&agent, "quit").await;

    // It ended well, and nobody had asked for it by the agent's own means.
    let crashed = status_when(agent.address, "crashed").await;
    assert_eq!(crashed["lastCrashClassification"], "unexpected_exit");
    assert_eq!(crashed["lastCrashExitCode"], 0);
}

#[tokio::test]
async fn a_halted_server_comes_back_with_its_container_and_a_stopped_one_does_not() {
    let (container, store, port) = (Container::new(), Store::start().await, free_port());
    let _down = Down(&container);
    let agent = Agent::start(&container, port).await;
    post(&agent, "/config", Some(&game(&store.url(), json!({})))).await;
    status_when(agent.address, "running").await;

    assert_eq!(post(&agent, "/halt", None).await.0, 204);
    assert_eq!(status(&agent).await["state"], "stopped");
    assert_eq!(fs::read_to_string(container.path("srv/game/world.sav")).unwrap(), "saved\n");
    agent.kill();
    let agent = Agent::start(&container, port).await;
    let back = status_when(agent.address, "running").await;
    assert_eq!((&back["crashCount"], &back["lastCrashTime"]), (&0.into(), &Value::Null));

    assert_eq!(post(&agent, "/stop", None).await.0, 204);
    assert_eq!(post(&agent, "/halt", None).await.0, 204);
    agent.kill();
    let agent = Agent::start(&container, port).await;
    status_when(agent.address, "stopped").await;
}

#[tokio::test]
async fn a_crash_is_explained_and_the_server_started_again_until_it_is_given_up() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);
    let policy = json!({"crash_policy": {"restart_after_seconds": [0, 0]}});
    let (agent, up) = running(&container, &store, policy).await;

    kill(pid(&up));
    let again = eventually(
        async || status(&agent).await,
        |status| status["crashCount"] == 1 && status["state"] == "running",
    )
    .await;
    assert_eq!((&again["lastCrashSignal"], &again["lastCrashExitCode"]), (&9.into(), &Value::Null));
    assert_eq!(again["lastCrashClassification"], "nonzero_exit");

    // From now on it does not even get as far.
    fs::write(container.path("srv/game/dies"), "").unwrap();
    say(&agent, "exit 4").await;

    let error = status_when(agent.address, "error").await;
    assert_eq!(error["error"], "the server ended by itself 3 times in a row");
    assert_eq!((&error["crashCount"], &error["lastCrashExitCode"]), (&3.into(), &3.into()));
    assert_eq!(error["lastCrashClassification"], "mod_or_plugin_error");
    assert_eq!(
        error["lastCrashLogTail"].as_array().unwrap().last().unwrap(),
        "Error: Cannot find module 'left-pad'"
    );
    let ready = call(agent.address, "GET", "/ready", None).await;
    assert_eq!((ready.0, &ready.1["readyError"]), (503, &error["error"]));
    assert_eq!(left(&container), Vec::<i32>::new());

    fs::remove_file(container.path("srv/game/dies")).unwrap();
    assert_eq!(post(&agent, "/start", None).await.0, 202);
    let mended = status_when(agent.address, "running").await;
    assert_eq!((&mended["crashCount"], &mended["error"]), (&0.into(), &Value::Null));
}

#[tokio::test]
async fn a_crash_that_no_agent_saw_is_known_to_the_next_one() {
    let (container, store, port) = (Container::new(), Store::start().await, free_port());
    let _down = Down(&container);
    let agent = Agent::start(&container, port).await;
    post(&agent, "/config", Some(&game(&store.url(), json!({})))).await;
    let up = status_when(agent.address, "running").await;

    agent.kill();
    kill(pid(&up));
    eventually(async || left(&container), Vec::is_empty).await;
    let agent = Agent::start(&container, port).await;

    let crashed = status_when(agent.address, "crashed").await;
    assert_eq!((&crashed["lastCrashSignal"], &crashed["crashCount"]), (&9.into(), &1.into()));
    let next = crashed["nextStartAt"].clone();
    assert!(next.is_string(), "{crashed}");

    // The pause goes on where it was.
    agent.kill();
    let agent = Agent::start(&container, port).await;
    let later = status_when(agent.address, "crashed").await;
    assert_eq!((&later["nextStartAt"], &later["crashCount"]), (&next, &1.into()));
}

#[tokio::test]
async fn a_server_does_not_outlive_its_holder() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);
    fs::create_dir_all(container.path("srv/game")).unwrap();
    fs::write(container.path("srv/game/deaf"), "").unwrap();
    let never = json!({"crash_policy": {"restart_after_seconds": []}});
    let (agent, up) = running(&container, &store, never).await;

    let stat = fs::read_to_string(format!("/proc/{}/stat", pid(&up))).unwrap();
    kill(stat.split(' ').nth(3).unwrap().parse().unwrap());

    let error = status_when(agent.address, "error").await;
    assert_eq!(error["lastCrashClassification"], "unexpected_exit");
    assert_eq!(
        (&error["lastCrashExitCode"], &error["lastCrashSignal"]),
        (&Value::Null, &Value::Null)
    );
    assert_eq!(left(&container), Vec::<i32>::new());
}

#[tokio::test]
async fn a_server_that_does_not_listen_is_ended_by_force_with_all_its_children() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);
    fs::create_dir_all(container.path("srv/game")).unwrap();
    fs::write(container.path("srv/game/deaf"), "").unwrap();
    let (agent, _) = running(&container, &store, json!({})).await;

    let (stopped, second) = tokio::join!(post(&agent, "/stop", None), async {
        let stopping = async || status(&agent).await;
        let stopping = eventually(stopping, |status| status["state"] == "stopping").await;
        assert_eq!(stopping["operationType"], "stop");
        post(&agent, "/start", None).await
    });

    assert_eq!((second.0, &second.1["error"]), (409, &"stop is still running".into()));
    assert_eq!(stopped.0, 204);
    assert_eq!(left(&container), Vec::<i32>::new());
    assert_eq!(status(&agent).await["operationInProgress"], false);
}

#[tokio::test]
async fn a_kill_does_not_wait_for_a_stop() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);
    fs::create_dir_all(container.path("srv/game")).unwrap();
    fs::write(container.path("srv/game/deaf"), "").unwrap();
    let (agent, _) = running(&container, &store, json!({})).await;

    let (stop, kill) = tokio::join!(post(&agent, "/restart", None), async {
        let stopping = async || status(&agent).await;
        eventually(stopping, |status| status["state"] == "stopping").await;
        post(&agent, "/kill", None).await
    });

    assert_eq!((stop.0, &stop.1["error"]), (409, &"the server was killed meanwhile".into()));
    assert_eq!(kill.0, 204);
    let down = status(&agent).await;
    assert_eq!((&down["state"], &down["operationInProgress"]), (&"stopped".into(), &false.into()));
    assert_eq!(left(&container), Vec::<i32>::new());
}

#[tokio::test]
async fn a_start_that_does_not_become_ready_is_a_crash() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);
    fs::create_dir_all(container.path("srv/game")).unwrap();
    fs::write(container.path("srv/game/mute"), "").unwrap();
    let agent = Agent::start(&container, free_port()).await;
    let never = json!({"crash_policy": {"restart_after_seconds": []}});
    post(&agent, "/config", Some(&game(&store.url(), never))).await;

    let starting = status_when(agent.address, "starting").await;
    assert_eq!(starting["readyError"], "the server is starting");

    let error = status_when(agent.address, "error").await;
    assert_eq!(error["lastCrashSignal"], 9);
    assert_eq!(left(&container), Vec::<i32>::new());
}

#[tokio::test]
async fn what_cannot_be_is_refused() {
    let (container, store) = (Container::new(), Store::start().await);
    let _down = Down(&container);
    let agent = Agent::start(&container, free_port()).await;
    assert_eq!(post(&agent, "/start", None).await.0, 409, "before a configuration");

    for (more, hint) in [
        (json!({"world": "../../etc"}), "`world`"),
        (json!({"world": "-g"}), "`world`"),
        (json!({"game": "a/b"}), "`game`"),
        (json!({"admin_pass": "a\nb"}), "`admin_pass`"),
        (json!({"crash_policy": {"restart_after_seconds": [9999]}}), "`crash_policy`"),
        (json!({"crash_policy": {"restarts": 3}}), "unknown field"),
    ] {
        let (status, body) = post(&agent, "/config", Some(&game(&store.url(), more))).await;
        assert_eq!(status, 400, "{body}");
        assert!(body["error"].as_str().unwrap().contains(hint), "{body}");
    }
    for (more, error) in [
        (json!({"version": "2"}), "no game `parlour` in variant `vanilla` and version `2`"),
        (json!({"ports": []}), "the server needs 1 ports, and 0 were given"),
        (json!({"memory_mb": 1}), "the server needs 64 MiB of memory, and 1 were given"),
    ] {
        post(&agent, "/config", Some(&game(&store.url(), more))).await;
        let status = status_when(agent.address, "error").await;
        assert!(status["error"].as_str().unwrap().contains(error), "{status}");
    }
    post(&agent, "/config", Some(&game(&store.url(), json!({})))).await;
    status_when(agent.address, "running").await;
    for wrong in ["", "a\u{7}b", "two\nlines", &"x".repeat(1025)] {
        let body = json!({"command": wrong});
        assert_eq!(post(&agent, "/console/command", Some(&body)).await.0, 400, "{wrong:?}");
    }
    let mut refused = None;
    for _ in 0..200 {
        let answer = post(&agent, "/console/command", Some(&json!({"command": "hi"}))).await;
        if answer.0 != 202 {
            refused = Some(answer);
            break;
        }
    }
    assert_eq!(refused.unwrap().0, 429);
}
