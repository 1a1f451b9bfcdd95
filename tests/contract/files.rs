//! `files`: files of one's own dev container, as its agent says.

use http::Method;
use serde_json::{Value, json};
use system_tests::Session;
use system_tests::host::Host;
use system_tests::http::Reply;

use crate::{assert_invalid, assert_not_found, assert_unauthenticated, with_unknown};

const ENTRY: &str = r#"{"name":"a","kind":"file","sizeBytes":1,"mode":"644","modifiedAt":"2026-01-01T00:00:00Z","source":null,"revertible":false}"#;

/// Everything that changes something: verb, body, status.
fn changes() -> Vec<(&'static str, Value, u16)> {
    let there = json!({ "from": "a", "to": "b" });
    vec![
        ("write", json!({ "path": "a", "content": "x" }), 200),
        ("revert", json!({ "path": "a" }), 200),
        ("mkdir", json!({ "path": "a" }), 201),
        ("rename", there.clone(), 200),
        ("copy", there.clone(), 201),
        ("archive", json!({ "paths": ["a"], "to": "a.tar.gz" }), 201),
        ("extract", there, 201),
    ]
}

const LOOKS: [&str; 3] = ["list", "stat", "read"];

async fn call(session: &Session, vmid: u64, verb: &str, body: Option<&Value>) -> Reply {
    let path = format!("/api/dev/{vmid}/files/{verb}");
    match body {
        Some(body) => session.call(Method::POST, &path, Some(body)).await,
        None if verb == "delete" => {
            session.call(Method::DELETE, &format!("{path}?path=a%20b"), None).await
        }
        None => session.get(&format!("{path}?path=a%20b")).await,
    }
}

/// Every operation, one after another.
async fn call_all(session: &Session, vmid: u64) -> Vec<Reply> {
    let mut replies = Vec::new();
    for verb in LOOKS.into_iter().chain(["delete"]) {
        replies.push(call(session, vmid, verb, None).await);
    }
    for (verb, body, _) in changes() {
        replies.push(call(session, vmid, verb, Some(&body)).await);
    }
    replies
}

#[tokio::test]
async fn the_containers_agent_is_asked_and_answers_for_itself() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let cases = [
        ("list", 200, r#"{"path":"a b","entries":[]}"#),
        ("stat", 200, ENTRY),
        ("read", 200, r#"{"path":"a b","content":"x","modifiedAt":"2026-01-01T00:00:00Z"}"#),
        ("delete", 204, ""),
    ];
    // Each keeps its port: connections to an earlier one may still be open.
    let mut agents = Vec::new();
    for (verb, status, answer) in cases {
        let agent = host.agent(status, answer).await;
        let there = host.created(&session, agent.address.port(), 2).await;

        let reply = call(&session, there.vmid, verb, None).await.expect(status);

        let method = if verb == "delete" { "DELETE" } else { "GET" };
        assert_eq!(agent.asked(), [format!("{method} /dev/files/{verb}?path=a%20b")]);
        if status == 200 {
            assert_eq!(reply.json(), serde_json::from_str::<Value>(answer).unwrap());
        }
        agents.push(agent);
    }
    for (verb, body, status) in changes() {
        let agent = host.agent(status, ENTRY).await;
        let there = host.created(&session, agent.address.port(), 2).await;

        let reply = call(&session, there.vmid, verb, Some(&body)).await.expect(status);

        assert_eq!(reply.json()["sizeBytes"], 1);
        assert_eq!(agent.asked(), [format!("POST /dev/files/{verb}")]);
        agents.push(agent);
    }
}

#[tokio::test]
async fn what_the_agent_refuses_is_refused_with_its_words() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let mut agents = Vec::new();
    for (status, code) in [
        (404, "not_found"),
        (409, "conflict"),
        (413, "too_large"),
        (422, "refused"),
        (507, "storage_full"),
    ] {
        let agent = host.agent(status, r#"{"error":"no, because","code":"whatever"}"#).await;
        let there = host.created(&session, agent.address.port(), 2).await;
        for reply in call_all(&session, there.vmid).await {
            assert_eq!(reply.status, status, "{}", reply.text());
            assert_eq!(reply.json()["code"], code);
            assert_eq!(reply.json()["details"]["error"], "no, because");
        }
        agents.push(agent);
    }
}

#[tokio::test]
async fn what_the_agent_does_not_know_is_not_passed_on() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let agent = host.agent(200, ENTRY).await;
    let there = host.created(&session, agent.address.port(), 2).await;

    for (verb, body, _) in changes() {
        for body in [with_unknown(&body), json!({}), json!({ "path": 1, "from": 1, "paths": 1 })] {
            assert_invalid(&call(&session, there.vmid, verb, Some(&body)).await);
        }
    }
    for verb in ["list", "stat", "read", "delete"] {
        let method = if verb == "delete" { Method::DELETE } else { Method::GET };
        let path = format!("/api/dev/{}/files/{verb}?path=a&root=%2F", there.vmid);
        assert_invalid(&session.call(method, &path, None).await);
    }
    let large = json!({ "path": "a", "content": "x", "from": "y".repeat(7 << 20) });
    for (verb, ..) in changes() {
        let path = format!("/api/dev/{}/files/{verb}", there.vmid);
        let reply = session.call(Method::POST, &path, Some(&large)).await;
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (413, &json!("too_large")));
    }
    assert_eq!(agent.asked(), [""; 0]);
}

#[tokio::test]
async fn anothers_files_are_not_there() {
    let host = Host::start().await;
    let (owner, stranger) = (host.somebody("ann").await, host.somebody("bob").await);
    let agent = host.agent(200, ENTRY).await;
    let there = host.created(&owner, agent.address.port(), 2).await;

    let theirs = call_all(&stranger, there.vmid).await;
    let missing = call_all(&stranger, 6999).await;

    for (theirs, missing) in theirs.iter().zip(&missing) {
        assert_not_found(theirs);
        assert_eq!(theirs.fingerprint(), missing.fingerprint());
    }
    host.make_game(there.vmid).await;
    for reply in call_all(&owner, there.vmid).await {
        assert_not_found(&reply);
    }
    assert_eq!(agent.asked(), [""; 0]);
}

#[tokio::test]
async fn nobody_is_let_in_without_a_token_and_a_container_must_be_there() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let (unfinished, _) = host.claimed(&session).await;

    for reply in call_all(&session, unfinished.vmid).await {
        assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (409, &json!("conflict")));
    }
    for verb in LOOKS {
        let path = format!("/api/dev/6000/files/{verb}?path=");
        assert_unauthenticated(&host.api.call(Method::GET, &path, None, None).await);
    }
    let path = "/api/dev/6000/files/delete?path=a";
    assert_unauthenticated(&host.api.call(Method::DELETE, path, None, None).await);
    for (verb, body, _) in changes() {
        let path = format!("/api/dev/6000/files/{verb}");
        assert_unauthenticated(&host.api.call(Method::POST, &path, None, Some(&body)).await);
    }
}
