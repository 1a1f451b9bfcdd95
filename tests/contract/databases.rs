//! PostgreSQL and Redis behind the components: what one writer at a time is for, grants, and outages.

use std::time::Duration;

use futures::future::join_all;
use http::Method;
use serde_json::json;
use system_tests::databases::Databases;
use system_tests::eventually;
use system_tests::host::{Host, now};
use system_tests::http::Reply;

/// How soon everything is as before once a server is back.
const RECOVERY: Duration = Duration::from_secs(30);

/// What components answer while something that they need is gone.
#[track_caller]
fn assert_unavailable(reply: &Reply) {
    assert_eq!(reply.status, 503, "{}", reply.text());
    assert_eq!(reply.json()["code"], "unavailable");
    assert!(reply.header("retry-after").is_some(), "{reply:?}");
    assert!(reply.headers.contains_key("x-request-id"));
}

async fn on_servers() -> (std::sync::Arc<Databases>, Host) {
    let databases = Databases::start().await;
    let host = Host::start_on(Some(databases.assign().await), &[]).await;
    (databases, host)
}

#[tokio::test]
async fn requests_at_once_get_containers_of_their_own() {
    let (_databases, host) = on_servers().await;
    let session = host.somebody("ann").await;

    let started = join_all((0..8).map(|_| session.start_dev(false))).await;

    let mut vmids: Vec<_> = started.iter().map(|started| started.vmid).collect();
    vmids.sort_unstable();
    vmids.dedup();
    assert_eq!(vmids.len(), 8);
}

#[tokio::test]
async fn a_refresh_token_that_is_used_twice_at_once_ends_the_session() {
    let (_databases, host) = on_servers().await;
    let session = host.somebody("ann").await;

    let replies = join_all((0..4).map(|_| host.api.refresh(&session.refresh_token))).await;

    let successes = replies.iter().filter(|reply| reply.status == 200).count();
    let refused = replies.iter().filter(|reply| reply.status == 401).count();
    assert_eq!((successes, refused), (1, 3), "{replies:?}");
    assert_eq!(session.get("/api/auth/me").await.status, 401);
}

#[tokio::test]
async fn an_operation_is_claimed_once() {
    let (_databases, host) = on_servers().await;
    host.somebody("ann").await.start_dev(false).await;

    let claims = join_all((0..6).map(async |number| {
        let body =
            json!({ "owner": format!("proxy-{number}"), "leaseSeconds": 60, "workingOn": [] });
        let claimed = host.internal(Method::POST, "/internal/operations/claim", Some(&body)).await;
        claimed.expect(200).json()["operation"].is_object()
    }))
    .await;

    assert_eq!(claims.iter().filter(|claimed| **claimed).count(), 1);
}

#[tokio::test]
async fn a_change_that_is_refused_leaves_nothing_behind_on_its_connection() {
    let (_databases, host) = on_servers().await;
    host.somebody("ann").await;
    let taken = json!({ "email": "ann@example.com", "username": "ann", "password": "long enough" });

    // Each is dropped in the middle of its transaction, and more of them than connections are pooled.
    for _ in 0..40 {
        let reply = host.api.call(Method::POST, "/api/auth/register", None, Some(&taken)).await;
        assert_eq!(reply.status, 409, "{}", reply.text());
    }

    host.somebody("bob").await.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn text_that_postgresql_cannot_hold_finds_nothing() {
    let (_databases, host) = on_servers().await;
    let body = json!({ "identifier": "ann\u{0}", "password": "anything" });

    let reply = host.api.call(Method::POST, "/api/auth/login", None, Some(&body)).await;

    assert_eq!(reply.status, 401, "{}", reply.text());
}

#[tokio::test]
async fn postgresql_gone_and_back() {
    let (databases, host) = on_servers().await;
    let session = host.somebody("ann").await;
    let bob = json!({ "email": "bob@example.com", "username": "bob", "password": "long enough" });
    let register =
        async || host.api.call(Method::POST, "/api/auth/register", None, Some(&bob)).await;

    databases.postgres.stop();
    assert_unavailable(&session.get("/api/auth/me").await);
    let refused = join_all([register(), register(), register()]).await;
    refused.iter().for_each(assert_unavailable);
    host.api.call(Method::GET, "/api/health", None, None).await.expect(200);

    databases.postgres.start();
    let me = async || session.get("/api/auth/me").await;
    eventually(RECOVERY, me, |reply| reply.status == 200).await;
    // None of the refused had made the account.
    register().await.expect(201);
}

#[tokio::test]
async fn redis_gone_and_back() {
    let (databases, host) = on_servers().await;
    let session = host.somebody("ann").await;
    let started = host.created(&session, 1, 2).await;
    let agents = host.internal(Method::GET, "/internal/agents", None).await.expect(200).json();
    let heartbeat = json!({ "observations": [{
        "vmid": started.vmid,
        "instanceId": agents["agents"][0]["instanceId"],
        "online": true,
        "ready": true,
        "readiness": { "vmid": started.vmid, "ready": true, "readySource": "dev-provisioned" },
        "status": null,
        "error": null,
        "seenAtMs": now() * 1000,
    }]});
    let beat = async || host.internal(Method::POST, "/internal/heartbeats", Some(&heartbeat)).await;
    let ready = async || {
        let path = format!("/api/servers/{}/status", started.vmid);
        session.get(&path).await.expect(200).json()["ready"] == true
    };
    beat().await.expect(204);
    assert!(ready().await);

    databases.redis.stop();
    assert_unavailable(&beat().await);
    // What is not known is not said to be ready.
    assert!(!ready().await);

    databases.redis.start();
    eventually(RECOVERY, beat, |reply| reply.status == 204).await;
    assert!(ready().await);
}

#[tokio::test]
async fn a_database_that_is_not_granted_is_not_reached() {
    let databases = Databases::start().await;
    let assigned = databases.assign().await;
    let host = Host::load_on(Some(assigned), &[("database_host", "postgres://127.0.0.1:1")]).await;

    let reply = host.internal(Method::POST, "/internal/migrate", None).await;

    assert_unavailable(&reply);
    assert!(!databases.log().contains("database=zlh_0"), "{}", databases.log());
}
