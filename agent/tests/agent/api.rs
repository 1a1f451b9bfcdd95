//! The API of an agent without code-server.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;

use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use zlh_agent::config::Config;
use zlh_agent::{App, StartError, clock};

use crate::container::{Container, call, call_as, config, status_when};
use crate::store::Store;

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
}

async fn bind(container: &Container) -> Result<App, StartError> {
    let config = Config::from_vars(|name| container.vars.get(name).cloned()).unwrap();
    App::bind(config, clock::system()).await
}

pub(crate) async fn start(container: &Container) -> Running {
    let app = bind(container).await.unwrap();
    let (stop, stopped) = oneshot::channel();
    let address = app.local_addr().unwrap();
    let served = tokio::spawn(app.serve(async {
        // Without a word it serves until the test ends.
        if stopped.await.is_err() {
            std::future::pending::<()>().await;
        }
    }));
    Running { address, stop, served }
}

async fn stop(running: Running) {
    running.stop.send(()).unwrap();
    running.served.await.unwrap();
}

pub(crate) fn without_code_server(store: &Store) -> Value {
    let mut config = config(&store.url());
    config["enable_code_server"] = false.into();
    config
}

#[tokio::test]
async fn only_health_answers_without_the_token() {
    let container = Container::new();
    let agent = start(&container).await.address;

    assert_eq!(call_as(agent, None, "GET", "/health", None).await.unwrap(), (200, json!("ok")));
    for token in [None, Some("wrong"), Some("")] {
        for path in ["/ready", "/status", "/version", "/nothing"] {
            let (status, body) = call_as(agent, token, "GET", path, None).await.unwrap();
            assert_eq!((status, &body["code"]), (401, &json!("unauthenticated")), "{path}");
        }
    }
    let (status, body) = call(agent, "GET", "/nothing", None).await;
    assert_eq!((status, body), (404, json!({"error": "no such route", "code": "not_found"})));
    let (status, body) = call(agent, "GET", "/config", None).await;
    assert_eq!((status, &body["code"]), (405, &json!("method_not_allowed")));
    assert_eq!(call(agent, "GET", "/version", None).await.0, 200);
}

#[tokio::test]
async fn a_configuration_that_cannot_be_meant_is_refused() {
    let container = Container::new();
    let agent = start(&container).await.address;
    let good = config("http://127.0.0.1:9");
    for (field, value) in [
        ("vmid", json!(6002)),
        ("vmid", json!("6001")),
        ("container_type", json!("game")),
        ("runtime", json!("../node")),
        ("version", json!("..")),
        ("version", json!("24.partial")),
        ("artifact_base_url", json!("https://elsewhere")),
        ("artifact_base_url", json!("http://user:word@elsewhere")),
        ("surprise", json!(1)),
    ] {
        let mut bad = good.clone();
        bad[field] = value;
        let (status, body) = call(agent, "POST", "/config", Some(&bad)).await;
        assert_eq!((status, &body["code"]), (400, &json!("invalid")), "{bad}: {body}");
    }
    let mut large = good;
    large["runtime"] = "x".repeat(66_000).into();
    let (status, body) = call(agent, "POST", "/config", Some(&large)).await;
    assert_eq!((status, &body["code"]), (413, &json!("too_large")));
    assert_eq!(call(agent, "GET", "/status", None).await.1["state"], "idle");
}

#[tokio::test]
async fn a_dev_container_gets_its_runtime_and_its_home() {
    let (container, store) = (Container::new(), Store::start().await);
    let running = start(&container).await;
    let agent = running.address;
    let config = without_code_server(&store);
    assert_eq!(call(agent, "GET", "/ready", None).await.0, 503);

    let (accepted, body) = call(agent, "POST", "/config", Some(&config)).await;

    assert_eq!((accepted, body), (202, json!({"ok": true, "state": "installing"})));
    let status = status_when(agent, "running").await;
    assert_eq!(status["runtimeInstalled"], true);
    assert_eq!(status["provisioningComplete"], true);
    assert_eq!(status["codeServerInstalled"], false);
    assert_eq!(status["workspaceRoot"], container.path("home/dev/workspace").display().to_string());
    let (ready, body) = call(agent, "GET", "/ready", None).await;
    assert_eq!(
        (ready, body),
        (200, json!({"vmid": 6001, "ready": true, "readySource": "dev-provisioned"}))
    );
    assert!(container.path("opt/zlh/runtimes/node/24/bin/node").is_file());
    let home = std::fs::metadata(container.path("home/dev")).unwrap();
    assert_eq!((home.uid(), home.mode() & 0o7777), (container.uid(), 0o750));
    assert_eq!(call(agent, "POST", "/dev/codeserver/start", None).await.0, 409);

    // The same again is nothing, and a restart needs neither a request nor the store.
    assert_eq!(call(agent, "POST", "/config", Some(&config)).await.1["state"], "running");
    stop(running).await;
    drop(store);
    let again = start(&container).await;
    let after = status_when(again.address, "running").await;
    assert_eq!(after["devReadyAt"], status["devReadyAt"]);
}

#[tokio::test]
async fn what_the_catalogue_does_not_have_is_named() {
    let (container, store) = (Container::new(), Store::start().await);
    let agent = start(&container).await.address;
    let mut config = without_code_server(&store);

    config["version"] = "99".into();
    call(agent, "POST", "/config", Some(&config)).await;
    let status = status_when(agent, "error").await;
    assert_eq!(status["error"], "the catalogue has no version `99` of runtime `node`; it has 24");

    config["runtime"] = "cobol".into();
    call(agent, "POST", "/config", Some(&config)).await;
    let status = crate::container::eventually(
        async || call(agent, "GET", "/status", None).await.1,
        |status| status["error"] == "the catalogue has no runtime `cobol`",
    )
    .await;
    assert_eq!(status["runtimeInstalled"], false);
}

#[tokio::test]
async fn a_wrong_hash_is_an_error_until_the_file_is_right() {
    let (container, store) = (Container::new(), Store::start().await);
    let agent = start(&container).await.address;
    let config = without_code_server(&store);
    store.flip("/devcontainer/node-24.tar.gz");

    call(agent, "POST", "/config", Some(&config)).await;

    let error = status_when(agent, "error").await["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("devcontainer/node-24.tar.gz: expected SHA-256 "), "{error}");
    assert!(error.contains(", found "), "{error}");
    assert_eq!(
        std::fs::read_dir(container.path("opt/zlh/runtimes/node")).map_or(0, Iterator::count),
        0
    );
    assert_eq!(
        std::fs::read_dir(container.path("var/lib/zlh-agent/downloads")).unwrap().count(),
        0
    );

    store.flip("/devcontainer/node-24.tar.gz");
    assert_eq!(call(agent, "POST", "/config", Some(&config)).await.0, 202);
    status_when(agent, "running").await;
}

#[tokio::test]
async fn one_root_has_one_agent() {
    let container = Container::new();
    let first = bind(&container).await.unwrap();

    let second = bind(&container).await.err().unwrap();

    let holder = Some(i32::try_from(std::process::id()).unwrap());
    assert!(
        matches!(second, StartError::Taken { holder: found, .. } if found == holder),
        "{second}"
    );
    drop(first);
}
