//! `servers`: instances, operations, catalogue, cached status.

use http::Method;
use serde_json::{Value, json};
use system_tests::api::{dev_container, started};
use system_tests::host::Host;

use crate::{
    assert_invalid, assert_not_found, assert_too_large, assert_unauthenticated, with, with_unknown,
    without,
};

#[tokio::test]
async fn the_catalogue_is_that_of_the_artifact_store() {
    let host = Host::start().await;

    let session = host.somebody("ann").await;
    let reply = session.get("/api/catalog/dev").await.expect(200).json();

    assert_eq!(reply["runtimes"], json!([{ "id": "node", "versions": ["24"] }]));
}

#[tokio::test]
async fn a_creation_is_accepted_and_can_be_polled() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;

    let reply = session
        .call(Method::POST, "/api/instances", Some(&dev_container(true)))
        .await
        .expect(202)
        .json();

    let started = started(&reply);
    assert!((6000..=6999).contains(&started.vmid), "{reply}");
    assert_eq!(reply["statusUrl"], format!("/api/operations/{}", started.operation));
    let operation = session.operation(&started.operation).await;
    assert_eq!(operation["id"], json!(started.operation));
    assert_eq!(operation["kind"], "create");
    assert_eq!(operation["status"], "queued");
    assert_eq!(operation["vmid"], started.vmid);
}

#[tokio::test]
async fn the_same_key_makes_one_instance() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let bearer = format!("Bearer {}", session.token);
    let create = async |key: &str, body: &Value| {
        let headers = [("authorization", bearer.as_str()), ("idempotency-key", key)];
        host.api.call_with(Method::POST, "/api/instances", &headers, Some(body)).await
    };

    let first = create("one", &dev_container(false)).await.expect(202).json();
    let again = create("one", &dev_container(false)).await.expect(202).json();
    let other = create("two", &dev_container(false)).await.expect(202).json();

    assert_eq!(first, again);
    assert_ne!(first["vmid"], other["vmid"]);
    let reused = create("one", &dev_container(true)).await;
    assert_eq!(reused.status, 409, "{}", reused.text());
}

#[tokio::test]
async fn a_creation_that_makes_no_sense_is_refused() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let body = dev_container(true);

    let bodies = [
        with_unknown(&body),
        without(&body, "ctype"),
        without(&body, "runtime"),
        with(&body, "ctype", json!("mainframe")),
        with(&body, "runtime", json!("../../etc")),
        with(&body, "runtime", json!("cobol")),
        with(&body, "version", json!("0")),
        with(&body, "memoryMiB", json!(0)),
        with(&body, "memoryMiB", json!(u32::MAX)),
        with(&body, "memoryMiB", json!(-1)),
        with(&body, "cpuCores", json!(0)),
    ];
    for body in bodies {
        let reply = session.call(Method::POST, "/api/instances", Some(&body)).await;
        assert_eq!(reply.status, 400, "{body}: {}", reply.text());
        assert_invalid(&reply);
    }
    assert_too_large(&session, Method::POST, "/api/instances").await;
    assert_eq!(session.get("/api/instances").await.expect(200).json()["rows"], json!([]));
}

#[tokio::test]
async fn anothers_things_are_answered_like_things_that_are_not_there() {
    let host = Host::start().await;
    let (ann, bob) = (host.somebody("ann").await, host.somebody("bob").await);
    let (there, _) = host.claimed(&ann).await;
    let absent = format!("/api/operations/{}", "00000000-0000-4000-8000-000000000000");

    for (method, theirs, missing) in [
        (Method::GET, format!("/api/instances/{}", there.vmid), "/api/instances/6999".to_owned()),
        (
            Method::DELETE,
            format!("/api/instances/{}", there.vmid),
            "/api/instances/6999".to_owned(),
        ),
        (
            Method::GET,
            format!("/api/servers/{}/status", there.vmid),
            "/api/servers/6999/status".to_owned(),
        ),
        (
            Method::DELETE,
            format!("/api/containers/{}", there.vmid),
            "/api/containers/six".to_owned(),
        ),
        (Method::GET, format!("/api/operations/{}", there.operation), absent),
    ] {
        let theirs = bob.call(method.clone(), &theirs, None).await;
        let missing = bob.call(method.clone(), &missing, None).await;
        assert_not_found(&theirs);
        assert_eq!(theirs.fingerprint(), missing.fingerprint(), "{method}");
    }
    assert_eq!(bob.get("/api/instances").await.expect(200).json()["rows"], json!([]));
    assert_eq!(bob.get("/api/servers").await.expect(200).json(), json!({ "servers": [] }));
    assert_eq!(ann.get("/api/instances").await.expect(200).json()["rows"][0]["vmid"], there.vmid);
    ann.get(&format!("/api/instances/{}", there.vmid)).await.expect(200);
}

#[tokio::test]
async fn nothing_is_told_without_a_token() {
    let host = Host::start().await;

    for (method, path) in [
        (Method::GET, "/api/catalog/dev"),
        (Method::GET, "/api/instances"),
        (Method::POST, "/api/instances"),
        (Method::GET, "/api/instances/6000"),
        (Method::DELETE, "/api/instances/6000"),
        (Method::GET, "/api/servers"),
        (Method::GET, "/api/servers/6000/status"),
        (Method::DELETE, "/api/containers/6000"),
        (Method::GET, "/api/operations/00000000-0000-4000-8000-000000000000"),
    ] {
        assert_unauthenticated(&host.api.call(method, path, None, None).await);
    }
}

#[tokio::test]
async fn a_page_that_is_none_is_refused() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;

    for list in ["/api/instances", "/api/servers"] {
        for page in ["limit=0", "limit=101", "limit=x", "cursor=", "cursor=x", "limit=1&limit=1"] {
            assert_invalid(&session.get(&format!("{list}?{page}")).await);
        }
        session.get(&format!("{list}?limit=1&cursor=1.6000")).await.expect(200);
    }
}

#[tokio::test]
async fn an_id_that_is_none_is_not_found() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;

    for id in ["0", "007", "+6000", "6000x", "-1", "1e3", "99999999999", "%36000%20", "../6000"] {
        assert_not_found(&session.get(&format!("/api/instances/{id}")).await);
    }
    assert_not_found(&session.get("/api/operations/nonsense").await);
}

#[tokio::test]
async fn nothing_is_ready_before_an_agent_was_seen() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let there = host.created(&session, 1, 2).await;

    let status =
        session.get(&format!("/api/servers/{}/status", there.vmid)).await.expect(200).json();

    assert_eq!(status["ready"], false, "{status}");
}

#[tokio::test]
async fn older_clients_list_servers_and_delete_containers() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let there = host.created(&session, 1, 2).await;

    let servers = session.get("/api/servers").await.expect(200).json()["servers"].clone();
    assert_eq!(servers[0]["id"], there.vmid);
    assert_eq!(
        (&servers[0]["category"], &servers[0]["status"]),
        (&json!("DEV"), &json!("offline"))
    );

    let path = format!("/api/containers/{}", there.vmid);
    let begun = session.call(Method::DELETE, &path, None).await.expect(202).json();
    assert_eq!((&begun["ok"], &begun["archived"]), (&json!(true), &json!(false)));
    let operation = session.operation(begun["operationId"].as_str().unwrap()).await;
    assert_eq!((&operation["kind"], &operation["vmid"]), (&json!("delete"), &json!(there.vmid)));
}

#[tokio::test]
async fn what_is_being_created_is_not_deleted() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let (there, _) = host.claimed(&session).await;

    for things in ["instances", "containers"] {
        let path = format!("/api/{things}/{}", there.vmid);
        let reply = session.call(Method::DELETE, &path, None).await;
        assert_eq!(reply.status, 409, "{}", reply.text());
        assert_eq!(reply.json()["code"], "conflict");
    }
}

#[tokio::test]
async fn older_clients_are_told_when_a_container_is_gone() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let there = host.created(&session, 1, 2).await;
    let path = format!("/api/containers/{}", there.vmid);
    session.call(Method::DELETE, &path, None).await.expect(202);

    let claim = json!({ "owner": "test-proxy", "leaseSeconds": 60, "workingOn": [] });
    let claimed = host.internal(Method::POST, "/internal/operations/claim", Some(&claim)).await;
    let operation = claimed.expect(200).json()["operation"].clone();
    let finish = format!("/internal/operations/{}/finish", operation["id"].as_str().unwrap());
    let deleted = json!({ "lease": operation["lease"], "outcome": "deleted" });
    host.internal(Method::POST, &finish, Some(&deleted)).await.expect(204);

    let gone = session.call(Method::DELETE, &path, None).await.expect(200).json();
    assert_eq!(gone, json!({ "ok": true, "vmid": there.vmid, "archived": true }));
    let other = host.somebody("bob").await;
    assert_not_found(&other.call(Method::DELETE, &path, None).await);
}

#[tokio::test]
async fn a_deletion_can_be_polled_and_is_one_operation() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let there = host.created(&session, 1, 2).await;
    let path = format!("/api/instances/{}", there.vmid);

    let first = session.call(Method::DELETE, &path, None).await.expect(202).json();
    let again = session.call(Method::DELETE, &path, None).await.expect(202).json();

    assert_eq!(first["operationId"], again["operationId"]);
    let operation = session.operation(first["operationId"].as_str().unwrap()).await;
    assert_eq!(operation["kind"], "delete");
}
