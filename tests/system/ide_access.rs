//! Who gets into an IDE, and who does not.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use system_tests::api::Session;
use system_tests::host::now;
use system_tests::http::{Reply, request, send, websocket};
use system_tests::stack::IDE_WEBSOCKET;
use system_tests::{Stack, forge};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::UnboundedSender;
use zlh_authn::token::{Claims, TokenKind};

/// Tokens that must not open the container, and why. `token` would, once.
async fn wrong_tokens(
    stack: &Stack,
    session: &Session,
    token: &str,
) -> Vec<(&'static str, String)> {
    let jwks = stack
        .api()
        .call(Method::GET, "/.well-known/jwks.json", None, None)
        .await
        .expect(200)
        .json();
    let claims: Claims = serde_json::from_value(forge::claims(token)).unwrap();
    let with = |change: &dyn Fn(&mut Claims)| {
        let mut claims = claims.clone();
        change(&mut claims);
        stack.sign(&claims)
    };
    let mut wrong = vec![
        ("the login's own token", session.token.clone()),
        ("alg none", forge::unsigned(token, "none")),
        ("alg noNE", forge::unsigned(token, "noNE")),
        ("the public key as HMAC secret", forge::hmac_with_public_key(token, &jwks)),
        ("another key", forge::other_key(token)),
        ("a broken signature", forge::broken_signature(token)),
        ("claims changed after signing", forge::with_claim(token, "vmid", &json!(6999))),
        ("expired", with(&|claims| claims.exp = now() - 6)),
        ("not yet valid", with(&|claims| claims.nbf = now() + 60)),
        ("another issuer", with(&|claims| claims.iss = "somebody".to_owned())),
        ("another audience", with(&|claims| claims.aud = "zlh:access".to_owned())),
        ("no login", with(&|claims| claims.sid = None)),
        ("no container", with(&|claims| claims.vmid = None)),
        ("no life of it", with(&|claims| claims.instance = None)),
        ("nonsense", "nonsense".to_owned()),
        ("a very long one", "a".repeat(4000)),
    ];
    for kind in TokenKind::ALL.into_iter().filter(|kind| *kind != TokenKind::DevIde) {
        wrong.push((kind.as_str(), stack.as_kind(token, kind)));
    }
    wrong
}

#[tokio::test]
async fn only_the_right_token_opens_an_ide_and_only_once() {
    let stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let (token, _) = session.ide_token(vmid).await;

    // Every wrong credential, in every place where one can be shown, is answered alike.
    let mut answers: Vec<(String, Reply)> = Vec::new();
    let nothing = stack.ide(vmid, "/", &[]).await;
    answers.push(("nothing, plain".to_owned(), nothing));
    for (what, wrong) in wrong_tokens(&stack, &session, &token).await {
        let bearer = format!("Bearer {wrong}");
        let cookie = format!("zlh_dev_ide_token={wrong}");
        answers.push((
            format!("{what}, as a link"),
            stack.ide(vmid, &format!("/?token={wrong}"), &[]).await,
        ));
        answers.push((
            format!("{what}, as a bearer"),
            stack.ide(vmid, "/", &[("authorization", &bearer)]).await,
        ));
        answers.push((
            format!("{what}, as a cookie"),
            stack.ide(vmid, "/", &[("cookie", &cookie)]).await,
        ));
        match stack.ide_websocket(vmid, &[("authorization", &bearer)]).await {
            Ok(_) => panic!("a WebSocket was opened with {what}"),
            Err(reply) => answers.push((format!("{what}, to a WebSocket"), reply)),
        }
    }
    let (_, first) = &answers[0];
    assert_eq!(first.status, 401, "{}", first.text());
    let different: Vec<_> = answers
        .iter()
        .filter(|(_, reply)| reply.fingerprint() != first.fingerprint())
        .map(|(what, reply)| format!("{what}: {} {}", reply.status, reply.text()))
        .collect();
    assert!(
        different.is_empty(),
        "answered differently from no credential at all:\n{}",
        different.join("\n")
    );

    // Tokens that were right once, before the container was deleted or changed hands, open it no more.
    let claims: Claims = serde_json::from_value(forge::claims(&token)).unwrap();
    let another_life = Claims { instance: Some(zlh_ids::InstanceId::random()), ..claims.clone() };
    let somebody_elses = Claims { sub: zlh_ids::UserId::random().to_string(), ..claims.clone() };
    let another_login = Claims { sid: Some(zlh_ids::SessionId::random()), ..claims };
    for (claims, status) in [(another_life, 404), (somebody_elses, 401), (another_login, 401)] {
        let stale = stack.sign(&claims);
        let reply = stack.ide(vmid, &format!("/?token={stale}"), &[]).await;
        assert_eq!(reply.status, status, "{claims:?}: {}", reply.text());
    }

    // As a bearer the right one opens the IDE as often as it likes, and is not passed on.
    let bearer = format!("Bearer {token}");
    stack.ide(vmid, "/", &[("authorization", &bearer)]).await.expect(302);
    stack.ide_websocket(vmid, &[("authorization", &bearer)]).await.expect("a WebSocket");

    // As a link it opens it once.
    let cookie = stack.ide_cookie(vmid, &token).await;
    stack.ide(vmid, "/", &[("cookie", &cookie)]).await.expect(302);
    assert_eq!(stack.ide(vmid, &format!("/?token={token}"), &[]).await.status, 401);

    // A WebSocket is opened by the IDE's own page and by no other.
    let own_host = stack.ide_host(vmid);
    for origin in [
        "http://evil.example".to_owned(),
        "null".to_owned(),
        format!("https://{own_host}"),
        format!("http://{own_host}.evil.example"),
        format!("http://dev-6999.ide.localhost:{}", stack.api().address.port()),
        format!("http://{}", stack.api().address),
        "http://dev-6000.ide.localhost".to_owned(),
    ] {
        let reply = stack.ide_websocket(vmid, &[("cookie", &cookie), ("origin", &origin)]).await;
        let status = reply.as_ref().map_or_else(|reply| reply.status.as_u16(), |_| 101);
        assert_eq!(status, 403, "from {origin}");
    }
    let headers = [("host", own_host.as_str()), ("cookie", &cookie)];
    let reply = websocket(stack.api().address, IDE_WEBSOCKET, &headers)
        .await
        .expect_err("no Origin, and a cookie");
    assert_eq!(reply.status, 403);
    // What a client says about forwarding changes nothing.
    let lie = [
        ("cookie", cookie.as_str()),
        ("origin", "http://evil.example"),
        ("x-forwarded-host", "evil.example"),
    ];
    assert_eq!(stack.ide_websocket(vmid, &lie).await.expect_err("a lie").status, 403);
    stack.ide_websocket(vmid, &[("cookie", &cookie)]).await.expect("a WebSocket");
}

#[tokio::test]
async fn what_is_not_yours_looks_like_what_is_not_there() {
    let stack = Stack::start().await;
    let (ann, bob) = (stack.api().register("ann").await, stack.api().register("bob").await);
    let vmid = ann.create_dev(false).await;
    let ask = async |session: &Session, vmid: &str| {
        session.post(&format!("/api/dev/{vmid}/ide-token")).await
    };

    let foreign = ask(&bob, &vmid.to_string()).await;

    assert_eq!(foreign.status, 404);
    for other in ["6999", "5000", "1", "nonsense"] {
        let reply = ask(&bob, other).await;
        assert_eq!(reply.fingerprint().0, foreign.fingerprint().0, "{other}");
        if other != "nonsense" {
            assert_eq!(reply.fingerprint(), foreign.fingerprint(), "{other}");
        }
    }
    // The IDE's host tells a stranger nothing either.
    let there = stack.ide(vmid, "/", &[]).await;
    let missing = stack.ide(6999, "/", &[]).await;
    assert_eq!(there.fingerprint(), missing.fingerprint());
}

#[tokio::test]
async fn a_logout_closes_what_is_open() {
    let stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let other_login = stack.api().login("ann").await;
    let cookie = stack.ide_cookie(vmid, &session.ide_token(vmid).await.0).await;
    let other_cookie = stack.ide_cookie(vmid, &other_login.ide_token(vmid).await.0).await;
    let mut socket = stack.ide_websocket(vmid, &[("cookie", &cookie)]).await.expect("a WebSocket");
    let mut other =
        stack.ide_websocket(vmid, &[("cookie", &other_cookie)]).await.expect("a WebSocket");
    assert!(!socket.closes_within(Duration::from_secs(3)).await, "closed before the logout");

    session.logout().await;

    assert!(
        socket.closes_within(Duration::from_secs(5)).await,
        "open five seconds after the logout"
    );
    assert!(
        !other.closes_within(Duration::from_secs(5)).await,
        "the other login's was closed, too"
    );
    assert_eq!(stack.api().refresh(&session.refresh_token).await.status, 401);
    let late = stack.ide(vmid, "/", &[("cookie", &cookie)]).await;
    assert_eq!(late.status, 401, "{}", late.text());
    stack.ide(vmid, "/", &[("cookie", &other_cookie)]).await.expect(302);
}

#[tokio::test]
async fn the_container_sees_none_of_our_credentials() {
    let stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let cookie = stack.ide_cookie(vmid, &session.ide_token(vmid).await.0).await;
    // code-server answers an unknown path itself; what it was sent is not seen there, so a listener of the
    // container's own is put in its place.
    let socket = stack.container(vmid).join("root/run/ide/code-server.sock");
    session.post(&format!("/api/dev/{vmid}/codeserver/stop")).await.expect(200);
    std::fs::remove_file(&socket).ok();
    // The proxy speaks only to the user whose folder the socket is in.
    let us = rustix::process::geteuid().as_raw();
    std::os::unix::fs::chown(socket.parent().unwrap(), Some(us), None).unwrap();
    let listener = UnixListener::bind(&socket).unwrap();
    let (seen, mut requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        // The agent looks at the socket from time to time, too.
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream, seen.clone()));
        }
    });

    let cookies = format!("mine=1; {cookie}; yours=2");
    let headers = [
        ("cookie", cookies.as_str()),
        ("x-forwarded-for", "6.6.6.6"),
        ("forwarded", "for=6.6.6.6"),
    ];
    let reply = stack.ide(vmid, "/x?y=1", &headers).await;

    let ours = async {
        loop {
            let request: String = requests.recv().await.unwrap();
            if request.starts_with("get /x?y=1 ") {
                return request;
            }
        }
    };
    let seen =
        tokio::time::timeout(Duration::from_secs(10), ours).await.expect("the container is asked");
    assert!(seen.contains(&format!("host: {}", stack.ide_host(vmid))), "{seen}");
    assert!(seen.contains("mine=1") && seen.contains("yours=2"), "{seen}");
    assert!(!seen.contains("zlh_dev_ide_token") && !seen.contains("6.6.6.6"), "{seen}");
    let planted: Vec<_> =
        reply.headers.get_all("set-cookie").iter().map(|value| value.to_str().unwrap()).collect();
    assert!(
        !planted
            .iter()
            .any(|value| value.contains("zlh_dev_ide_token") || value.contains("Domain")),
        "{planted:?}"
    );
}

/// Answers one request with cookies that a container must not set, and tells what the request was.
async fn answer(mut stream: UnixStream, seen: UnboundedSender<String>) {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\
        set-cookie: zlh_dev_ide_token=planted\r\nset-cookie: theirs=1; Domain=localhost\r\n\r\nok";

    let mut text = Vec::new();
    while !text.ends_with(b"\r\n\r\n") {
        let Ok(byte) = stream.read_u8().await else { return };
        text.push(byte);
    }
    seen.send(String::from_utf8_lossy(&text).to_ascii_lowercase()).ok();
    stream.write_all(ANSWER).await.ok();
}

#[tokio::test]
async fn an_ide_token_is_no_credential_of_the_api() {
    let stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let (token, _) = session.ide_token(vmid).await;

    for path in ["/api/auth/me", "/api/instances", &format!("/api/servers/{vmid}/status")] {
        let reply = stack.api().call(Method::GET, path, Some(&token), None).await;
        assert_eq!(reply.status, 401, "{path}: {}", reply.text());
    }
    // The IDE's host serves the IDE and not the API.
    let bearer = format!("Bearer {}", session.token);
    let host = stack.ide_host(vmid);
    let headers = [("host", host.as_str()), ("authorization", bearer.as_str())];
    let reply = send(stack.api().address, request(Method::GET, "/api/auth/me", &headers, None))
        .await
        .unwrap();
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert_ne!(serde_json::from_slice::<Value>(&reply.body).unwrap_or_default()["ok"], true);
}
