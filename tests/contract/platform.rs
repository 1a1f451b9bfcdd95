//! `platform`: health, public keys, and what host-proxies ask.

use http::Method;
use serde_json::{Value, json};
use system_tests::host::Host;

use crate::{assert_invalid, assert_unauthenticated};

#[tokio::test]
async fn health_is_told_to_everybody() {
    let host = Host::start().await;

    let reply = host.api.call(Method::GET, "/api/health", None, None).await.expect(200).json();

    assert_eq!(reply["status"], "ok");
    assert!(reply["service"].is_string() && reply["time"].is_string(), "{reply}");
}

#[tokio::test]
async fn the_api_is_described_by_the_running_system() {
    let host = Host::start().await;

    let reply = host.api.call(Method::GET, "/api/openapi.json", None, None).await.expect(200);

    let written: serde_json::Value =
        serde_json::from_str(include_str!("../../docs/openapi.json")).unwrap();
    assert_eq!(reply.json(), written);
}

#[tokio::test]
async fn public_keys_are_published_and_private_ones_are_not() {
    let host = Host::start().await;

    let reply =
        host.api.call(Method::GET, "/.well-known/jwks.json", None, None).await.expect(200).json();

    let keys = reply["keys"].as_array().unwrap();
    assert!(!keys.is_empty());
    for key in keys {
        assert_eq!(key["kty"], "OKP");
        assert!(key["kid"].is_string() && key["x"].is_string(), "{key}");
        assert_eq!(key["d"], Value::Null);
    }
}

#[tokio::test]
async fn an_operation_is_handed_to_one_owner_at_a_time() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let (started, operation) = host.claimed(&session).await;
    let claim = async |owner: &str, working_on: &[&str]| {
        let body = json!({ "owner": owner, "leaseSeconds": 60, "workingOn": working_on });
        let reply = host
            .internal(Method::POST, "/internal/operations/claim", Some(&body))
            .await
            .expect(200);
        reply.json()["operation"].clone()
    };

    assert_eq!(operation["kind"], "create");
    assert_eq!(operation["spec"]["runtime"], "node");
    assert_eq!(claim("other-proxy", &[]).await, Value::Null);
    assert_eq!(claim("test-proxy", &[&started.operation]).await, Value::Null);
    // The same name again: the process that had it has ended.
    let again = claim("test-proxy", &[]).await;
    assert_eq!(again["id"], operation["id"]);
    assert_ne!(again["lease"], operation["lease"]);
    assert_eq!(session.operation(&started.operation).await["status"], "running");
}

#[tokio::test]
async fn a_lease_that_was_lost_is_good_for_nothing() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let (started, operation) = host.claimed(&session).await;
    let body = json!({ "owner": "test-proxy", "leaseSeconds": 60 });
    host.internal(Method::POST, "/internal/operations/claim", Some(&body)).await.expect(200);
    let lost = &operation["lease"];

    for (call, body) in [
        ("heartbeat", json!({ "lease": lost, "leaseSeconds": 60, "message": "still at it" })),
        ("ports", json!({ "lease": lost, "count": 1 })),
        ("steps", json!({ "lease": lost, "step": "create" })),
        ("undo", json!({ "lease": lost, "error": "no" })),
        ("finish", json!({ "lease": lost, "outcome": "undone" })),
    ] {
        let path = format!("/internal/operations/{}/{call}", started.operation);
        let reply = host.internal(Method::POST, &path, Some(&body)).await;
        assert_eq!(reply.status, 409, "{call}: {}", reply.text());
    }
}

#[tokio::test]
async fn ports_are_reserved_once_and_for_one_container() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let reserve = async |operation: &Value| {
        let path = format!("/internal/operations/{}/ports", operation["id"].as_str().unwrap());
        let body = json!({ "lease": operation["lease"], "count": 2 });
        let reply = host.internal(Method::POST, &path, Some(&body)).await.expect(200).json();
        serde_json::from_value::<Vec<u16>>(reply["ports"].clone()).unwrap()
    };
    let (_, first) = host.claimed(&session).await;

    let ports = reserve(&first).await;
    let again = reserve(&first).await;
    let (_, second) = host.claimed_beside(&session, &first).await;
    let others = reserve(&second).await;

    assert_eq!(ports.len(), 2);
    assert_eq!(ports, again);
    assert!(others.iter().all(|port| !ports.contains(port)), "{ports:?} {others:?}");
}

#[tokio::test]
async fn what_was_undone_failed_and_frees_its_place() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let (started, operation) = host.claimed(&session).await;
    let path = format!("/internal/operations/{}", started.operation);
    let lease = &operation["lease"];

    let body = json!({ "lease": lease, "error": "the disk is full" });
    host.internal(Method::POST, &format!("{path}/undo"), Some(&body)).await.expect(204);
    assert_eq!(session.operation(&started.operation).await["status"], "undoing");
    let body = json!({ "lease": lease, "outcome": "undone" });
    host.internal(Method::POST, &format!("{path}/finish"), Some(&body)).await.expect(204);

    let operation = session.operation(&started.operation).await;
    assert_eq!(operation["status"], "failed");
    assert!(operation["error"].to_string().contains("the disk is full"), "{operation}");
    assert_eq!(session.get("/api/instances").await.expect(200).json()["rows"], json!([]));
}

#[tokio::test]
async fn an_observation_is_what_the_owner_sees() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let (started, operation) = host.claimed(&session).await;
    let path = format!("/internal/operations/{}/finish", started.operation);
    let body = json!({ "lease": operation["lease"], "outcome": { "created": {
        "agentAddress": "127.0.0.1:1", "ideAddress": null,
    }}});
    host.internal(Method::POST, &path, Some(&body)).await.expect(204);
    let agents = host.internal(Method::GET, "/internal/agents", None).await.expect(200).json();
    assert_eq!(agents["agents"][0]["vmid"], started.vmid);
    assert_eq!(agents["agents"][0]["agentAddress"], "127.0.0.1:1");

    let body = json!({ "observations": [{
        "vmid": started.vmid,
        "instanceId": operation["instanceId"],
        "online": true,
        "ready": true,
        "readiness": { "vmid": started.vmid, "ready": true, "readySource": "dev-provisioned" },
        "status": null,
        "error": null,
        "seenAtMs": system_tests::host::now() * 1000,
    }]});
    host.internal(Method::POST, "/internal/heartbeats", Some(&body)).await.expect(204);

    let status =
        session.get(&format!("/api/servers/{}/status", started.vmid)).await.expect(200).json();
    assert_eq!(status["ready"], true, "{status}");
}

#[tokio::test]
async fn internal_routes_want_an_internal_token_and_a_sane_body() {
    let host = Host::start().await;

    assert_unauthenticated(&host.api.call(Method::GET, "/internal/agents", None, None).await);
    for body in [json!({}), json!({ "owner": "a", "leaseSeconds": 60, "more": 1 })] {
        assert_invalid(
            &host.internal(Method::POST, "/internal/operations/claim", Some(&body)).await,
        );
    }
    let again = host.internal(Method::POST, "/internal/migrate", None).await.expect(200).json();
    assert_eq!(again["applied"], json!([]));
}
