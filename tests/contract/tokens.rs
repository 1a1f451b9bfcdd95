//! `tokens`: what opens an IDE, and for how long.

use http::Method;
use serde_json::{Value, json};
use system_tests::api::{Session, Started};
use system_tests::forge;
use system_tests::host::{Host, now};
use zlh_authn::token::Claims;

use crate::{assert_invalid, assert_not_found, assert_too_large, assert_unauthenticated};

/// Somebody with a dev container, and a token for its IDE.
async fn ide(host: &Host) -> (Session, Started, String) {
    let session = host.somebody("ann").await;
    let there = host.created(&session, 1, 2).await;
    let (token, _) = session.ide_token(there.vmid).await;
    (session, there, token)
}

async fn open(host: &Host, vmid: u64, token: &str) -> system_tests::http::Reply {
    host.internal(
        Method::POST,
        "/internal/ide/open",
        Some(&json!({ "vmid": vmid, "token": token })),
    )
    .await
}

async fn check(host: &Host, vmid: u64, credential: &Value) -> system_tests::http::Reply {
    host.internal(
        Method::POST,
        "/internal/ide/check",
        Some(&json!({ "vmid": vmid, "credential": credential })),
    )
    .await
}

#[tokio::test]
async fn a_token_names_its_container_and_lives_five_minutes() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let there = host.created(&session, 1, 2).await;

    let reply =
        session.post(&format!("/api/dev/{}/ide-token", there.vmid)).await.expect(200).json();

    let token = reply["token"].as_str().unwrap();
    assert_eq!(reply["expiresIn"], 300);
    assert_eq!(
        reply["url"],
        format!("http://dev-{}.ide.localhost:8080/?token={token}", there.vmid)
    );
    let claims = forge::claims(token);
    assert_eq!(claims["type"], "dev-ide");
    assert_eq!(claims["vmid"], there.vmid);
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 300);
    assert_eq!(claims["sub"], forge::claims(&session.token)["sub"]);
}

#[tokio::test]
async fn in_tunnel_mode_the_url_is_the_bootstrap_of_the_api() {
    let host = Host::start_with(&[("dev_ide_return_hosted_url", "false")]).await;
    let (_, there, _) = ide(&host).await;
    let session = host.api.login("ann").await;

    let (token, url) = session.ide_token(there.vmid).await;

    assert_eq!(url, format!("/api/dev/{}/ide?token={token}", there.vmid));
}

#[tokio::test]
async fn a_stranger_cannot_tell_that_the_container_exists() {
    let host = Host::start().await;
    let (_, there, _) = ide(&host).await;
    let stranger = host.somebody("bob").await;

    let theirs = stranger.post(&format!("/api/dev/{}/ide-token", there.vmid)).await;
    let missing = stranger.post("/api/dev/6999/ide-token").await;

    assert_not_found(&theirs);
    assert_eq!(theirs.fingerprint(), missing.fingerprint());
    assert_not_found(&stranger.post("/api/dev/nonsense/ide-token").await);
}

#[tokio::test]
async fn nobody_gets_a_token_without_one() {
    let host = Host::start().await;

    assert_unauthenticated(
        &host.api.call(Method::POST, "/api/dev/6000/ide-token", None, None).await,
    );
}

#[tokio::test]
async fn a_container_without_an_ide_has_no_token() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let (there, _) = host.claimed(&session).await;

    let reply = session.post(&format!("/api/dev/{}/ide-token", there.vmid)).await;

    assert_eq!(reply.status, 409, "{}", reply.text());
    assert_eq!(reply.json()["code"], "conflict");
}

#[tokio::test]
async fn a_token_is_exchanged_once() {
    let host = Host::start().await;
    let (session, there, token) = ide(&host).await;

    let opened = open(&host, there.vmid, &token).await.expect(200).json();

    assert_eq!(opened["access"]["vmid"], there.vmid);
    assert_eq!(opened["access"]["ideAddress"], "127.0.0.1:2");
    assert_eq!(opened["access"]["userId"], forge::claims(&session.token)["sub"]);
    // 256 bits in base64url.
    assert_eq!(opened["session"].as_str().unwrap().len(), 43);
    assert_unauthenticated(&open(&host, there.vmid, &token).await);
    assert_unauthenticated(&check(&host, there.vmid, &json!({ "token": token })).await);
    check(&host, there.vmid, &json!({ "session": opened["session"] })).await.expect(200);
}

#[tokio::test]
async fn a_game_server_has_no_ide() {
    let host = Host::start().await;
    let (session, there, token) = ide(&host).await;
    let opened = open(&host, there.vmid, &session.ide_token(there.vmid).await.0).await;
    let opened = opened.expect(200).json()["session"].clone();

    host.make_game(there.vmid).await;

    for reply in [
        session.post(&format!("/api/dev/{}/ide-token", there.vmid)).await,
        session.post(&format!("/api/dev/{}/codeserver/start", there.vmid)).await,
        check(&host, there.vmid, &json!({ "session": opened })).await,
        open(&host, there.vmid, &token).await,
    ] {
        assert_not_found(&reply);
    }
}

#[tokio::test]
async fn a_stream_token_names_its_container_and_opens_its_kind_of_stream() {
    let host = Host::start().await;
    let session = host.somebody("ann").await;
    let there = host.created(&session, 1, 2).await;
    let path = format!("/api/servers/{}/stream-token", there.vmid);
    for kind in ["console", "upload"] {
        let reply = session.call(Method::POST, &path, Some(&json!({ "kind": kind }))).await;

        let made = reply.expect(200).json();
        let token = made["token"].as_str().unwrap();
        assert_eq!(made["expiresIn"], 300);
        let claims = forge::claims(token);
        assert_eq!((&claims["type"], &claims["vmid"]), (&json!(kind), &json!(there.vmid)));
        let check = async |kind: &str| {
            let body = json!({ "vmid": there.vmid, "kind": kind, "token": token });
            host.internal(Method::POST, "/internal/streams/check", Some(&body)).await
        };
        assert_eq!(check(kind).await.expect(200).json()["agentAddress"], "127.0.0.1:1");
        let other = if kind == "console" { "upload" } else { "console" };
        assert_unauthenticated(&check(other).await);
    }
}

#[tokio::test]
async fn a_stream_token_is_for_ones_own_container_and_a_known_kind() {
    let host = Host::start().await;
    let (owner, stranger) = (host.somebody("ann").await, host.somebody("bob").await);
    let there = host.created(&owner, 1, 2).await;
    let path = format!("/api/servers/{}/stream-token", there.vmid);
    let body = json!({ "kind": "upload" });

    let theirs = stranger.call(Method::POST, &path, Some(&body)).await;
    let missing = stranger.call(Method::POST, "/api/servers/6999/stream-token", Some(&body)).await;
    assert_not_found(&theirs);
    assert_eq!(theirs.fingerprint(), missing.fingerprint());
    assert_unauthenticated(&host.api.call(Method::POST, &path, None, Some(&body)).await);
    for body in [json!({}), json!({ "kind": "codex" }), json!({ "kind": "upload", "path": "x" })] {
        assert_invalid(&owner.call(Method::POST, &path, Some(&body)).await);
    }
    assert_too_large(&owner, Method::POST, &path).await;
    let other = host.somebody("carol").await;
    let (unfinished, _) = host.claimed(&other).await;
    let path = format!("/api/servers/{}/stream-token", unfinished.vmid);
    let reply = other.call(Method::POST, &path, Some(&body)).await;
    assert_eq!((reply.status.as_u16(), &reply.json()["code"]), (409, &json!("conflict")));
}

#[tokio::test]
async fn a_token_that_was_not_exchanged_can_be_used_as_it_is() {
    let host = Host::start().await;
    let (_, there, token) = ide(&host).await;

    for _ in 0..2 {
        check(&host, there.vmid, &json!({ "token": token })).await.expect(200);
    }
    open(&host, there.vmid, &token).await.expect(200);
}

#[tokio::test]
async fn a_token_of_one_container_does_not_open_another() {
    let host = Host::start().await;
    let (session, there, token) = ide(&host).await;
    let other = host.created(&session, 3, 4).await;
    assert_ne!(there.vmid, other.vmid);

    for reply in [
        open(&host, other.vmid, &token).await,
        check(&host, other.vmid, &json!({ "token": token })).await,
        open(&host, 6999, &token).await,
    ] {
        assert_unauthenticated(&reply);
    }
    open(&host, there.vmid, &token).await.expect(200);
}

#[tokio::test]
async fn a_token_is_refused_once_its_time_is_over() {
    let host = Host::start().await;
    let (_, there, token) = ide(&host).await;
    let mut claims: Claims = serde_json::from_value(forge::claims(&token)).unwrap();
    // Five seconds of leeway are granted to clocks.
    claims.exp = now() - 6;
    let late = host.sign(&claims);
    claims.exp = now() + 60;
    let in_time = host.sign(&claims);

    assert_unauthenticated(&open(&host, there.vmid, &late).await);
    assert_unauthenticated(&check(&host, there.vmid, &json!({ "token": late })).await);
    open(&host, there.vmid, &in_time).await.expect(200);
}

#[tokio::test]
async fn what_hangs_on_a_login_ends_with_it() {
    let host = Host::start().await;
    let (session, there, token) = ide(&host).await;
    let opened = open(&host, there.vmid, &token).await.expect(200).json();
    let (unused, _) = session.ide_token(there.vmid).await;
    let access = &opened["access"];
    let grant = json!({
        "vmid": access["vmid"],
        "instanceId": access["instanceId"],
        "userId": access["userId"],
        "sessionId": access["sessionId"],
    });
    let revalidate = async || {
        let body = json!({ "accesses": [grant] });
        host.internal(Method::POST, "/internal/ide/revalidate", Some(&body))
            .await
            .expect(200)
            .json()
    };
    assert_eq!(revalidate().await["revoked"], json!([]));

    session.logout().await;

    assert_eq!(revalidate().await["revoked"], json!([grant]));
    for reply in [
        check(&host, there.vmid, &json!({ "session": opened["session"] })).await,
        check(&host, there.vmid, &json!({ "token": unused })).await,
        open(&host, there.vmid, &unused).await,
    ] {
        assert_unauthenticated(&reply);
    }
}
