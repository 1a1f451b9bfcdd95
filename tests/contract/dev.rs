//! `dev`: code-server of one's own dev container.

use http::Method;
use serde_json::json;
use system_tests::host::Host;

use crate::{assert_not_found, assert_unauthenticated};

const ACTIONS: [&str; 3] = ["start", "stop", "restart"];

#[tokio::test]
async fn the_containers_agent_is_told() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let agent = host.agent(200, r#"{"ok":true,"codeServerRunning":true}"#).await;
    let there = host.created(&session, agent.address.port(), 2).await;

    for action in ACTIONS {
        session.post(&format!("/api/dev/{}/codeserver/{action}", there.vmid)).await.expect(200);
    }

    let asked = agent.asked();
    assert_eq!(asked, ACTIONS.map(|action| format!("POST /dev/codeserver/{action}")));
}

#[tokio::test]
async fn what_takes_longer_goes_on() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let agent = host.agent(202, r#"{"ok":true,"codeServerRunning":false}"#).await;
    let there = host.created(&session, agent.address.port(), 2).await;

    for action in ACTIONS {
        let reply = session.post(&format!("/api/dev/{}/codeserver/{action}", there.vmid)).await;
        assert_eq!(reply.expect(202).json(), json!({ "ok": true, "codeServerRunning": false }));
    }
}

#[tokio::test]
async fn an_agent_that_is_busy_is_a_conflict() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let agent = host.agent(409, r#"{"error":"an operation is running","code":"conflict"}"#).await;
    let there = host.created(&session, agent.address.port(), 2).await;

    for action in ACTIONS {
        let reply = session.post(&format!("/api/dev/{}/codeserver/{action}", there.vmid)).await;
        assert_eq!(reply.status, 409, "{}", reply.text());
        assert_eq!(reply.json()["code"], "conflict");
    }
}

#[tokio::test]
async fn an_agent_that_does_not_answer_is_unavailable_and_its_address_is_not_told() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let gone = host.agent(200, "").await;
    let port = gone.address.port();
    drop(gone);
    let there = host.created(&session, port, 2).await;

    let reply = session.post(&format!("/api/dev/{}/codeserver/start", there.vmid)).await;

    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.json()["code"], "unavailable");
    assert!(!reply.text().contains("127.0.0.1"), "{}", reply.text());
}

#[tokio::test]
async fn an_agents_answer_that_is_no_agents_answer_is_not_passed_on() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let agent = host.agent(200, "<script>alert(1)</script>").await;
    let there = host.created(&session, agent.address.port(), 2).await;

    let reply = session.post(&format!("/api/dev/{}/codeserver/start", there.vmid)).await;

    assert!(reply.status.is_server_error(), "{} {}", reply.status, reply.text());
    assert!(!reply.text().contains("script"), "{}", reply.text());
}

#[tokio::test]
async fn anothers_container_is_not_there() {
    let host = Host::start().await;
    let (owner, stranger) = (host.somebody("ann").await, host.somebody("bob").await);
    let agent = host.agent(200, r#"{"ok":true,"codeServerRunning":true}"#).await;
    let there = host.created(&owner, agent.address.port(), 2).await;

    for action in ACTIONS {
        let theirs = stranger.post(&format!("/api/dev/{}/codeserver/{action}", there.vmid)).await;
        let missing = stranger.post(&format!("/api/dev/6999/codeserver/{action}")).await;
        assert_not_found(&theirs);
        assert_eq!(theirs.fingerprint(), missing.fingerprint());
    }
    assert_eq!(agent.asked(), [""; 0]);
}

#[tokio::test]
async fn nobody_is_let_in_without_a_token_and_no_other_action_exists() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;

    for action in ACTIONS {
        let path = format!("/api/dev/6000/codeserver/{action}");
        assert_unauthenticated(&host.api.call(Method::POST, &path, None, None).await);
    }
    let other = session.post("/api/dev/6000/codeserver/format").await;
    assert_not_found(&other);
}
