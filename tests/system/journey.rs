//! From nothing to an open IDE.

use http::Method;
use serde_json::json;
use system_tests::http::{request, send};
use system_tests::{Stack, StackOptions};

/// Everything a customer does, over HTTP.
async fn takes_a_customer_from_nothing_to_an_ide(stack: &Stack) {
    let api = stack.api();
    let session = api.register("ann").await;
    let catalogue = session.get("/api/catalog/dev").await.expect(200).json();
    assert_eq!(catalogue["runtimes"][0]["id"], "node", "{catalogue}");

    let vmid = session.create_dev(true).await;

    let status = session.ready(vmid).await;
    assert_eq!(status["vmid"], vmid, "{status}");
    let rows = session.get("/api/instances").await.expect(200).json()["rows"].clone();
    assert_eq!(rows.as_array().map(Vec::len), Some(1), "{rows}");
    assert_eq!(stack.agents(vmid).len(), 1, "{:#?}", stack.processes(vmid));
    assert_eq!(stack.code_servers(vmid).len(), 1, "{:#?}", stack.processes(vmid));

    // Hosted mode: the link is exchanged for a cookie, and the page is code-server's own.
    let (token, url) = session.ide_token(vmid).await;
    assert_eq!(url, format!("http://{}/?token={token}", stack.ide_host(vmid)));
    let first = stack.ide(vmid, &format!("/?token={token}"), &[]).await.expect(303);
    assert_eq!(first.header("location"), Some("/"));
    assert_eq!(first.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(first.header("cache-control"), Some("no-store"));
    let cookie = first.header("set-cookie").unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=") && !cookie.contains("Domain"),
        "{cookie}"
    );
    let cookie = cookie.split(';').next().unwrap();
    let folder = stack.ide(vmid, "/", &[("cookie", cookie)]).await.expect(302);
    let location = folder.header("location").unwrap().trim_start_matches('.').to_owned();
    assert!(location.starts_with("/?folder=") && location.ends_with("workspace"), "{location}");
    let page = stack.ide(vmid, &location, &[("cookie", cookie)]).await.expect(200);
    assert!(page.text().contains("workbench"), "{}", page.text());
    stack.ide_websocket(vmid, &[("cookie", cookie)]).await.expect("an open WebSocket");
}

#[tokio::test]
async fn a_customer_gets_from_nothing_to_an_ide() {
    let stack = Stack::start().await;

    takes_a_customer_from_nothing_to_an_ide(&stack).await;
}

#[tokio::test]
async fn it_makes_no_difference_where_the_components_run() {
    let stack = Stack::start_with(StackOptions { split: true, ..StackOptions::default() }).await;

    takes_a_customer_from_nothing_to_an_ide(&stack).await;
}

#[tokio::test]
async fn components_without_a_route_to_agents_go_through_the_gateway() {
    let options = StackOptions { split: true, gateway: true, ..StackOptions::default() };
    let stack = Stack::start_with(options).await;
    let told = stack.variables().await;
    assert!(told.contains("AGENTS_NETWORK=''") && told.contains("AGENT_TOKEN_SECRET=''"), "{told}");

    takes_a_customer_from_nothing_to_an_ide(&stack).await;

    let session = stack.api().login("ann").await;
    let vmid = session.get("/api/instances").await.expect(200).json()["rows"][0]["vmid"].clone();
    let vmid = vmid.as_u64().unwrap();
    for (verb, running) in [("stop", 0), ("start", 1), ("restart", 1)] {
        session.post(&format!("/api/dev/{vmid}/codeserver/{verb}")).await.expect(200);
        assert_eq!(stack.code_servers(vmid).len(), running, "{verb}");
    }
}

#[tokio::test]
async fn in_tunnel_mode_an_ide_has_a_listener_of_its_own() {
    let stack =
        Stack::start_with(StackOptions::default().with("DEV_IDE_RETURN_HOSTED_URL", "false")).await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let tunnel = stack.ide_listener();
    let get = async |path: &str, cookie: &str| {
        send(tunnel, request(Method::GET, path, &[("cookie", cookie)], None)).await.unwrap()
    };

    let (token, url) = session.ide_token(vmid).await;
    assert_eq!(url, format!("/api/dev/{vmid}/ide?token={token}"));
    let bootstrap = stack.api().call(Method::GET, &url, None, None).await.expect(302);
    let location = bootstrap.header("location").unwrap();
    assert_eq!(location, format!("http://{tunnel}/__ide/{vmid}/?token={token}"));

    let first = get(&format!("/__ide/{vmid}/?token={token}"), "").await.expect(303);
    let cookie = first.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    assert!(
        first.header("set-cookie").unwrap().contains(&format!("Path=/__ide/{vmid}")),
        "{first:?}"
    );
    get(&format!("/__ide/{vmid}/"), &cookie).await.expect(302);
    assert_eq!(get(&format!("/__ide/{vmid}/"), "").await.status, 401);

    // The other listener's paths are not served here, and the other way round.
    assert_eq!(get("/api/health", "").await.status, 404);
    let elsewhere = stack
        .api()
        .call_with(Method::GET, &format!("/__ide/{vmid}/"), &[("cookie", &cookie)], None)
        .await;
    assert_eq!(elsewhere.status, 404, "{}", elsewhere.text());
}

#[tokio::test]
async fn code_server_can_be_stopped_and_started_again() {
    let stack = Stack::start().await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    let before = stack.code_servers(vmid);

    session.post(&format!("/api/dev/{vmid}/codeserver/stop")).await.expect(200);
    assert_eq!(stack.code_servers(vmid), []);
    let cookie = stack.ide_cookie(vmid, &session.ide_token(vmid).await.0).await;
    let down = stack.ide(vmid, "/", &[("cookie", &cookie), ("accept", "text/html")]).await;
    assert_eq!(down.status, 503);
    assert!(down.text().contains("tries again by itself"), "{}", down.text());

    session.post(&format!("/api/dev/{vmid}/codeserver/start")).await.expect(200);
    stack.ide(vmid, "/", &[("cookie", &cookie)]).await.expect(302);
    let after = stack.code_servers(vmid);
    assert_eq!(after.len(), 1);
    assert_ne!(before[0].pid, after[0].pid);

    session.post(&format!("/api/dev/{vmid}/codeserver/restart")).await.expect(200);
    let restarted = stack.code_servers(vmid);
    assert_eq!(restarted.len(), 1);
    assert_ne!(after[0].pid, restarted[0].pid);
}

#[tokio::test]
async fn the_first_operator_is_made_at_the_first_start_only() {
    let mut stack = Stack::start_without_containers().await;
    let operator = stack.api().login("admin@example.com").await;
    let me = operator.get("/api/auth/me").await.expect(200).json();
    assert_eq!(me["user"]["role"], "admin", "{me}");

    assert!(stack.terminate().await.iter().all(std::process::ExitStatus::success));
    stack.restart().await;

    stack.api().login("admin@example.com").await;
    let body = json!({ "identifier": "admin@example.com", "password": "something else" });
    assert_eq!(
        stack.api().call(Method::POST, "/api/auth/login", None, Some(&body)).await.status,
        401
    );
    // What was signed before still holds.
    operator.get("/api/auth/me").await.expect(200);
}
