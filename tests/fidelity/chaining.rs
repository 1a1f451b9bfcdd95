//! Requests of components that do not leave the host.

use system_tests::app::App;

/// A caller with these hosts, a callee without a public route, and a public static response.
async fn app(allowed: &str) -> App {
    App::start(&format!(
        "[[trigger.http]]\nroute = '/caller/...'\ncomponent = 'caller'\n\
         [[trigger.http]]\nroute = {{ private = true }}\ncomponent = 'hidden'\n\
         [[trigger.http]]\nroute = '/fixed'\nstatic_response = {{ body = 'fixed' }}\n\
         [component.caller]\nsource = '{{probe}}'\nallowed_outbound_hosts = [{allowed}]\n\
         [component.hidden]\nsource = '{{probe}}'\nenvironment = {{ WHO = 'hidden' }}\n\
         [component.unrouted]\nsource = '{{probe}}'\n"
    ))
    .await
}

#[tokio::test]
async fn a_private_component_is_reached_by_others_alone_and_sees_who_calls() {
    let app = app("'http://hidden.spin.internal'").await;

    let seen = app.text("/caller/get?http://hidden.spin.internal/request/deep?q=1").await;
    let outside = app.get("/request").await;

    let mut lines = seen.lines();
    assert_eq!(lines.next(), Some("200"));
    assert_eq!(lines.next(), Some("GET http://hidden.spin.internal/request/deep?q=1"));
    let mut headers: Vec<&str> = lines.collect();
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            "spin-base-path: /",
            "spin-client-addr: 0.0.0.0:0",
            "spin-component-route: ",
            "spin-full-url: http://hidden.spin.internal/request/deep?q=1",
            "spin-matched-route: /...",
            "spin-path-info: /request/deep",
            "spin-raw-component-route: /...",
        ]
    );
    assert_eq!(outside.status, 404);
}

#[tokio::test]
async fn a_component_is_called_only_if_that_is_allowed() {
    for allowed in ["", "'http://caller.spin.internal'", "'https://hidden.spin.internal'"] {
        let app = app(allowed).await;
        let denied = app.get("/caller/get?http://hidden.spin.internal/env/WHO").await;
        assert_eq!(denied.status, 502, "{allowed}: {}", denied.text());
        assert!(denied.text().contains("HttpRequestDenied"), "{}", denied.text());
    }
}

#[tokio::test]
async fn a_star_allows_every_component_and_one_without_a_trigger_is_none() {
    let app = app("'http://*.spin.internal'").await;

    let hidden = app.text("/caller/get?http://hidden.spin.internal/env/WHO").await;
    let itself = app.text("/caller/get?http://caller.spin.internal/hello").await;
    let unrouted = app.get("/caller/get?http://unrouted.spin.internal/hello").await;
    let unknown = app.get("/caller/get?http://unknown.spin.internal/hello").await;

    assert_eq!((hidden.as_str(), itself.as_str()), ("200\nhidden", "200\nhello"));
    for absent in [unrouted, unknown] {
        assert_eq!(absent.status, 502);
        assert!(absent.text().contains("DestinationNotFound"), "{}", absent.text());
    }
}

#[tokio::test]
async fn the_applications_own_routes_are_called_by_self_alt() {
    let app = app("'http://self'").await;

    let fixed = app.text("/caller/get?http://self.alt/fixed").await;
    let missing = app.text("/caller/get?http://self.alt/none").await;
    let hidden = app.get("/caller/get?http://hidden.spin.internal/env/WHO").await;

    assert_eq!((fixed.as_str(), missing.as_str()), ("200\nfixed", "404\n"));
    assert_eq!(hidden.status, 502, "self is not every component: {}", hidden.text());
}

#[tokio::test]
async fn self_must_be_allowed_too() {
    let app = app("'http://*.spin.internal'").await;

    let denied = app.get("/caller/get?http://self.alt/fixed").await;

    assert!(denied.text().contains("HttpRequestDenied"), "{}", denied.text());
}

#[tokio::test]
async fn a_client_that_names_a_component_as_host_is_routed_by_path_and_the_name_is_removed() {
    let app = app("").await;
    let headers = [("host", "hidden.spin.internal")];

    let reply = app.call(http::Method::GET, "/caller/request", &headers, bytes::Bytes::new()).await;

    let text = reply.unwrap().expect(200).text();
    assert!(!text.contains("\nhost: "), "{text}");
    assert!(text.contains("spin-matched-route: /caller/..."), "{text}");
}

#[tokio::test]
async fn a_component_that_calls_itself_for_ever_ends_in_a_refusal_and_hurts_no_other() {
    let app = App::start(
        "[[trigger.http]]\nroute = '/caller/...'\ncomponent = 'caller'\n\
         [[trigger.http]]\nroute = '/other/...'\ncomponent = 'other'\n\
         [component.caller]\nsource = '{probe}'\nallowed_outbound_hosts = ['http://self']\n\
         [component.caller.tool.zlh]\nmax_concurrent_requests = 8\nmax_queued_requests = 0\n\
         [component.other]\nsource = '{probe}'\n",
    )
    .await;
    let nested =
        (0..9).fold("hello".to_owned(), |inner, _| format!("get?http://self.alt/caller/{inner}"));

    let refused = app.get(&format!("/caller/{nested}")).await.text();
    let other = app.text("/other/hello").await;

    assert!(refused.contains("503\n"), "{refused}");
    assert_eq!(other, "hello");
}
