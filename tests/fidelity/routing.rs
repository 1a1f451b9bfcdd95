//! Routes, and what is said about a request on its way to a component.

use bytes::Bytes;
use http::Method;
use system_tests::app::App;

const PROBE: &str = "[component.probe]\nsource = '{probe}'\n";

#[tokio::test]
async fn a_component_learns_how_its_request_was_routed_and_a_client_cannot_lie_about_it() {
    let app = App::start(&format!(
        "{PROBE}[[trigger.http]]\nroute = '/users/:userid/...'\ncomponent = 'probe'\n"
    ))
    .await;
    let forged = [("spin-path-info", "/panic"), ("spin-path-match-other", "x"), ("x-mine", "y")];

    let reply = app.call(Method::GET, "/users/42/request?q=1", &forged, Bytes::new()).await;

    let text = reply.unwrap().expect(200).text();
    let address = app.address;
    let (first, headers) = text.split_once('\n').unwrap();
    assert_eq!(first, format!("GET http://{address}/users/42/request?q=1"));
    let mut spin: Vec<&str> = headers.lines().filter(|line| line.starts_with("spin-")).collect();
    spin.sort_unstable();
    let client = spin.iter().position(|line| line.starts_with("spin-client-addr: 127.0.0.1:"));
    spin.remove(client.expect("the client"));
    assert_eq!(
        spin,
        [
            "spin-base-path: /",
            "spin-component-route: /users/:userid",
            &format!("spin-full-url: http://{address}/users/42/request?q=1"),
            "spin-matched-route: /users/:userid/...",
            "spin-path-info: /request",
            "spin-path-match-userid: 42",
            "spin-raw-component-route: /users/:userid/...",
        ]
    );
    assert!(headers.contains("x-mine: y\n") && headers.contains(&format!("host: {address}\n")));
}

#[tokio::test]
async fn the_most_specific_route_wins_and_what_matches_none_is_an_empty_404() {
    let app = App::start(&format!(
        "{PROBE}[[trigger.http]]\nroute = '/hello'\ncomponent = 'probe'\n\
         [[trigger.http]]\nroute = '/:any'\nstatic_response = {{ body = 'one' }}\n\
         [[trigger.http]]\nroute = '/deep/...'\nstatic_response = {{ body = 'all' }}\n"
    ))
    .await;

    let found = [app.text("/hello").await, app.text("/x").await, app.text("/deep/a/b").await];
    let nothing = app.get("/x/y").await.expect(404);

    assert_eq!(found, ["hello", "one", "all"]);
    assert!(nothing.body.is_empty());
}

#[tokio::test]
async fn a_response_may_be_written_in_the_manifest() {
    let app = App::start(
        "[[trigger.http]]\nroute = '/...'\n\
         static_response = { status_code = 418, headers = { x-kind = 'teapot' }, body = 'short' }\n",
    )
    .await;

    let reply = app.get("/any").await.expect(418);

    assert_eq!((reply.header("x-kind"), reply.text().as_str()), (Some("teapot"), "short"));
}

#[tokio::test]
async fn health_and_information_are_answered_before_any_route() {
    let app =
        App::start("[[trigger.http]]\nroute = '/...'\nstatic_response = { body = 'no' }\n").await;

    let health = app.text("/.well-known/spin/health").await;
    let info = app.get("/.well-known/spin/info").await.expect(200);
    let other = app.get("/.well-known/spin/other").await;

    assert_eq!(health, "OK");
    assert_eq!(info.header("content-type"), Some("application/json"));
    assert_eq!(info.json(), serde_json::json!({ "name": "test", "version": "1.2.3" }));
    assert_eq!(other.status, 404);
}

#[tokio::test]
async fn a_component_may_be_written_in_its_trigger() {
    let app = App::start(
        "[[trigger.http]]\nroute = '/...'\ncomponent = { source = '{probe}', environment = { A = 'b' } }",
    )
    .await;

    assert_eq!(app.text("/env/A").await, "b");
}

#[tokio::test]
async fn bodies_are_streamed_in_both_directions() {
    let app =
        App::start(&format!("{PROBE}[[trigger.http]]\nroute = '/...'\ncomponent = 'probe'\n"))
            .await;
    let sent = Bytes::from(vec![7; 1 << 20]);

    let echoed = app.call(Method::POST, "/echo", &[], sent.clone()).await.unwrap().expect(200);
    let mut stream = app.begin("/stream").await;

    assert!(echoed.body == sent, "{} bytes came back", echoed.body.len());
    assert_eq!(stream.next().await.unwrap().as_deref(), Some("stream 1\n"));
    assert_eq!(stream.next().await.unwrap().as_deref(), Some("tick\n"));
}

#[tokio::test]
async fn what_cannot_be_served_stops_the_start_with_a_sentence() {
    let routed = "[[trigger.http]]\nroute = '/'\ncomponent = 'x'\n";
    for (manifest, part) in [
        (
            "[[trigger.redis]]\nchannel = 'c'\n".to_owned(),
            "`trigger.redis` is not served by this host",
        ),
        (
            format!("{routed}[component.x]\nsource = '{{probe}}'\nai_models = ['llama']\n"),
            "`component.x.ai_models` is not served by this host",
        ),
        (
            format!("{routed}[component.x]\nsource = '{{probe}}'\nsurprise = 1\n"),
            "unknown field `surprise`",
        ),
        (format!("{routed}[component.x]\nsource = '{{answer}}'\n"), "cannot load component `x`"),
    ] {
        let error = App::refused(&manifest).await;
        assert!(error.contains(part), "{error}");
    }
}
