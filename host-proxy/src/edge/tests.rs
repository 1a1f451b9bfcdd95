use crate::test_kit::{Peer, Stage, VMID};

const HTML: &str = "Accept: text/html\r\n";

#[tokio::test]
async fn what_is_not_for_everybody_is_not_there() {
    let stage = Stage::set().await;
    let get = |path: &str, host: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let mut bodies = Vec::new();

    for path in [
        "/internal",
        "/internal/agents",
        "/%69nternal/agents",
        "//internal/agents",
        "/api/..%2finternal/agents",
        "/api/../internal/agents",
        "/a%00",
    ] {
        let answer = stage.ask(&get(path, "localhost")).await;
        assert_eq!(answer.status(), "404", "{path}");
        assert!(answer.header("x-request-id").is_some());
        bodies.push(answer.body);
    }
    for host in ["dev-007.ide.localhost", "dev-7.evil.ide.localhost", "dev-6001.ide.localhost."] {
        let answer = stage.ask(&get("/", host)).await;
        assert_eq!(answer.status(), "404", "{host}");
        bodies.push(answer.body);
    }

    bodies.dedup();
    assert_eq!(bodies, [r#"{"error":"not found","code":"not_found"}"#]);
}

#[tokio::test]
async fn a_request_has_one_host() {
    let stage = Stage::set().await;

    for request in [
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
        "GET http://other/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ] {
        let answer = stage.ask(request).await;
        assert_eq!(answer.status(), "400", "{request}");
        assert!(answer.body.contains(r#""code":"invalid""#), "{}", answer.body);
        assert!(answer.header("x-request-id").is_some());
    }
}

#[tokio::test]
async fn a_header_that_is_no_text_does_not_reach_components() {
    let stage = Stage::set().await;

    let mut client = Peer::connect(stage.public).await;
    client.send(b"GET /api/x HTTP/1.1\r\nHost: a\r\nX-A: \xff\r\n\r\n").await;

    assert_eq!(client.message().await.status(), "400");
}

#[tokio::test]
async fn components_see_a_clean_request_and_clients_a_whole_answer() {
    let stage = Stage::set().await;
    let mut client = Peer::connect(stage.public).await;
    client
        .send(
            "POST /api/x?y=1 HTTP/1.1\r\nHost: portal.example\r\nX-Forwarded-For: 6.6.6.6\r\n\
             Spin-Client-Addr: 6.6.6.6\r\nX-Request-Id: mine\r\nConnection: x-drop\r\nX-Drop: 1\r\n\
             Cookie: a=1; zlh_dev_ide_token=s\r\nAuthorization: Bearer t\r\nContent-Length: 2\r\n\r\n{}",
        )
        .await;

    let mut component = Peer::accept(&stage.components).await;
    let seen = component.message().await;
    component.send("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n").await;
    let answer = client.message().await;

    assert!(seen.head.starts_with("POST /api/x?y=1 HTTP/1.1\r\n"), "{}", seen.head);
    // A host that the client made up has no meaning to whatever runs the components.
    let components = stage.components.local_addr().unwrap().to_string();
    assert_eq!(seen.header("host"), Some(components.as_str()));
    assert_eq!(seen.header("x-forwarded-host"), Some("portal.example"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("cookie"), Some("a=1"));
    assert_eq!(seen.header("authorization"), Some("Bearer t"));
    assert_eq!(seen.header("spin-client-addr"), None);
    assert_eq!(seen.header("x-drop"), None);
    assert_eq!(seen.body, "{}");
    assert_ne!(seen.header("x-request-id"), Some("mine"));
    assert_eq!(seen.header("x-request-id"), answer.header("x-request-id"));
    assert_eq!(answer.body, r#"{"error":"not found","code":"not_found"}"#);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let stage = Stage::set().await;

    let answer = stage.ask("POST /api/x HTTP/1.1\r\nHost: a\r\nContent-Length: 1025\r\n\r\n").await;

    assert_eq!(answer.status(), "413");
    assert_eq!(answer.body, r#"{"error":"the body is too large","code":"too_large"}"#);
}

#[tokio::test]
async fn a_token_in_a_link_becomes_a_cookie() {
    let stage = Stage::set().await;
    let host = stage.ide_host();

    let answer = stage
        .ask(&format!("GET /a?folder=/x&token=token&y HTTP/1.1\r\nHost: {host}\r\n{HTML}\r\n"))
        .await;

    assert_eq!(answer.status(), "303");
    assert_eq!(answer.header("location"), Some("/a?folder=/x&y"));
    assert_eq!(
        answer.header("set-cookie"),
        Some("zlh_dev_ide_token=session; Max-Age=60; Path=/; HttpOnly; SameSite=Lax")
    );
    assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_link_never_leads_to_another_host() {
    let stage = Stage::set().await;
    let host = stage.ide_host();

    for path in ["//evil.example/?token=token", "/\\evil.example/?token=token"] {
        let answer = stage.ask(&format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
        assert_eq!(answer.header("location"), None, "{path}");
        assert!(answer.status().starts_with('4'), "{path}");
    }
}

#[tokio::test]
async fn nobody_is_told_why_a_credential_was_not_taken() {
    let stage = Stage::set().await;
    let (ours, other) =
        (stage.ide_host(), format!("dev-6002.ide.localhost:{}", stage.public.port()));
    let get = |path: &str, host: &str, more: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{more}\r\n")
    };
    let mut refused = Vec::new();

    for request in [
        get("/", &ours, ""),
        get("/?token=expired", &ours, ""),
        get("/?token=%20", &ours, ""),
        get("/?token=a&token=b", &ours, ""),
        get("/", &ours, "Cookie: zlh_dev_ide_token=old\r\n"),
        get("/", &ours, "Authorization: Bearer access\r\n"),
        get("/", &other, ""),
    ] {
        let answer = stage.ask(&request).await;
        assert_eq!(answer.status(), "401", "{request}");
        refused.push(answer.body);
    }
    refused.dedup();
    assert_eq!(refused, [r#"{"error":"not authenticated","code":"unauthenticated"}"#]);

    let foreign = stage.ask(&get("/", &other, "Cookie: zlh_dev_ide_token=session\r\n")).await;
    assert_eq!(foreign.status(), "404");
    assert_eq!(foreign.body, r#"{"error":"not found","code":"not_found"}"#);
}

#[tokio::test]
async fn the_container_sees_the_browser_but_none_of_our_secrets() {
    let stage = Stage::set().await;
    let host = stage.ide_host();
    let mut client = Peer::connect(stage.public).await;
    client
        .send(&format!(
            "GET /x?a=1 HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n\
             Cookie: zlh_dev_ide_token=planted; b=2; zlh_dev_ide_token=session\r\n\
             X-Forwarded-Host: evil\r\nForwarded: host=evil\r\nX-Agent-Token: t\r\n\
             Accept-Encoding: gzip\r\n\r\n"
        ))
        .await;

    let mut ide = Peer::accept(&stage.ide).await;
    let seen = ide.message().await;
    ide.send(
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nSet-Cookie: zlh_dev_ide_token=x\r\n\
         Access-Control-Allow-Origin: *\r\nContent-Type: text/html\r\n\r\nok",
    )
    .await;
    let answer = client.message().await;

    assert!(seen.head.starts_with("GET /x?a=1 HTTP/1.1\r\n"), "{}", seen.head);
    assert_eq!(seen.header("host"), Some(&*host));
    assert_eq!(seen.header("origin"), Some(&*format!("http://{host}")));
    assert_eq!(seen.header("x-forwarded-host"), Some(&*host));
    assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
    assert_eq!(seen.header("cookie"), Some("b=2"));
    assert_eq!(seen.header("accept-encoding"), Some("gzip"));
    assert_eq!((seen.header("forwarded"), seen.header("x-agent-token")), (None, None));
    assert_eq!((answer.status(), &*answer.body), ("200", "ok"));
    assert_eq!(
        (answer.header("set-cookie"), answer.header("access-control-allow-origin")),
        (None, None)
    );
}

#[tokio::test]
async fn a_silent_ide_is_explained_to_people_and_reported_to_programs() {
    let mut stage = Stage::set().await;
    let host = stage.ide_host();
    stage.ide = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let cookie = "Cookie: zlh_dev_ide_token=session\r\n";

    let page = stage.ask(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n{HTML}{cookie}\r\n")).await;
    let envelope = stage.ask(&format!("GET /x HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n")).await;

    assert_eq!((page.status(), envelope.status()), ("503", "503"));
    assert!(page.body.contains(r#"http-equiv="refresh""#), "{}", page.body);
    assert!(envelope.body.contains(r#""code":"unavailable""#), "{}", envelope.body);
}

#[tokio::test]
async fn a_tunnelled_ide_is_below_its_prefix_on_its_own_listener() {
    let stage = Stage::set().await;
    let host = format!("localhost:{}", stage.tunnel.port());
    let cookie = "Cookie: zlh_dev_ide_token=session\r\n";
    let mut client = Peer::connect(stage.tunnel).await;

    client.send(&format!("GET /__ide/{VMID}?token=token HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let slash = client.message().await;
    client.send(&format!("GET /__ide/{VMID}/?token=token HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let opened = client.message().await;
    client.send(&format!("GET /api/health HTTP/1.1\r\nHost: {host}\r\n\r\n")).await;
    let elsewhere = client.message().await;
    client.send(&format!("GET /__ide/{VMID}/a/b?c HTTP/1.1\r\nHost: {host}\r\n{cookie}\r\n")).await;
    let seen = Peer::accept(&stage.ide).await.head().await;

    assert_eq!(slash.header("location"), Some(&*format!("/__ide/{VMID}/?token=token")));
    assert_eq!(opened.header("location"), Some(&*format!("/__ide/{VMID}/")));
    assert!(opened.header("set-cookie").unwrap().contains(&format!("Path=/__ide/{VMID}/;")));
    assert_eq!(elsewhere.status(), "404");
    assert!(seen.starts_with("GET /a/b?c HTTP/1.1\r\n"), "{seen}");
}

#[tokio::test]
async fn a_tunnel_link_leads_to_the_tunnel_listener_with_its_token() {
    let stage = Stage::set().await;
    let get = |query: &str| {
        format!("GET /api/dev/{VMID}/ide{query} HTTP/1.1\r\nHost: portal.example:8080\r\n\r\n")
    };

    let good = stage.ask(&get("?token=token")).await;
    let bad = stage.ask(&get("?token=expired")).await;
    let none = stage.ask(&get("")).await;

    let port = stage.tunnel.port();
    let location = format!("http://portal.example:{port}/__ide/{VMID}/?token=token");
    assert_eq!((good.status(), good.header("location")), ("302", Some(&*location)));
    assert_eq!(good.header("referrer-policy"), Some("no-referrer"));
    assert_eq!((bad.status(), none.status()), ("401", "401"));
    assert_eq!(
        *stage.authority.calls.lock().unwrap(),
        ["check", "check"],
        "the token is not used up"
    );
}
