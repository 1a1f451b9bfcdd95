//! Guests of WASI 0.2 beside those of 0.3, and the interfaces of WASI that Spin serves both.

use bytes::Bytes;
use http::Method;
use system_tests::app::App;
use system_tests::stub::Stub;

const P2: &str = "[[trigger.http]]\nroute = '/...'\ncomponent = 'probe'\n\
    [component.probe]\nsource = '{probe-p2}'\n";

#[tokio::test]
async fn a_guest_of_wasi_0_2_is_served_with_the_same_headers() {
    let app = App::start(P2).await;

    let seen = app.text("/request?q=1").await;
    let body = Bytes::from(vec![1; 200_000]);
    let counted = app.call(Method::POST, "/count", &[], body).await.unwrap().expect(200);

    assert!(seen.starts_with(&format!("Method::Get {} /request?q=1\n", app.address)), "{seen}");
    assert!(seen.contains("spin-path-info: /request\n"), "{seen}");
    assert!(seen.contains("spin-client-addr: 127.0.0.1:"), "{seen}");
    assert_eq!(counted.text(), "200000");
}

#[tokio::test]
async fn an_instance_of_wasi_0_2_serves_many_at_once_by_being_many() {
    let app = App::start(P2).await;

    let answers = futures::future::join_all((0..12).map(|_| app.text("/hello"))).await;

    assert!(answers.iter().all(|answer| answer == "hello"), "{answers:?}");
}

#[tokio::test]
async fn a_guest_of_wasi_0_2_calls_allowed_hosts_and_components_only() {
    let (allowed, other) =
        (Stub::start(|_| (200, "hi".into())).await, Stub::start(|_| (200, "".into())).await);
    let app = App::start(&format!(
        "{P2}allowed_outbound_hosts = ['http://{}', 'http://hidden.spin.internal']\n\
         [[trigger.http]]\nroute = {{ private = true }}\ncomponent = 'hidden'\n\
         [component.hidden]\nsource = '{{probe}}'\n",
        allowed.address
    ))
    .await;

    assert_eq!(app.text(&format!("/get/{}/path", allowed.address)).await, "200\nhi");
    assert_eq!(app.text("/get/hidden.spin.internal/hello").await, "200\nhello");
    for path in [format!("/get/{}/path", other.address), "/get/probe.spin.internal/hello".into()] {
        let denied = app.get(&path).await;
        assert_eq!(denied.status, 500);
        assert!(denied.text().contains("HttpRequestDenied"), "{}", denied.text());
    }
    assert!(other.asked().is_empty(), "{:?}", other.asked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_guest_of_wasi_0_2_that_loops_is_ended() {
    let app = App::start(&format!("{P2}[component.probe.tool.zlh]\ncpu_deadline_ms = 200\n")).await;

    let ended = app.get("/loop").await;

    assert_eq!(ended.status, 504, "{}", ended.text());
    assert_eq!(app.text("/hello").await, "hello");
}

#[tokio::test]
async fn wasi_config_has_the_variables_of_the_stanza() {
    let app = App::start(&format!("{P2}variables = {{ one = '1', two = '2' }}\n")).await;

    assert_eq!(app.text("/config/one").await, "Some(\"1\")");
    assert_eq!(app.text("/config/none").await, "None");
    assert_eq!(app.text("/config/").await, r#"[("one", "1"), ("two", "2")]"#);
}

#[tokio::test]
async fn wasi_keyvalue_works_on_the_stores_of_the_stanza() {
    let app = App::start(&format!("{P2}key_value_stores = ['default']\n")).await;

    let seen = app.text("/key-value/default").await;
    let refused = app.get("/key-value/other").await;

    assert_eq!(seen, r#"["a", "b"] None [("b", Some([50])), ("c", None)] true None"#);
    assert_eq!(refused.status, 500);
    assert_eq!(refused.text(), "Error::AccessDenied");
}

#[tokio::test]
async fn wasi_keyvalue_increments_and_swaps_only_what_has_not_changed() {
    let app = App::start(&format!("{P2}key_value_stores = ['default']\n")).await;

    let seen = app.text("/atomics/default").await;

    assert_eq!(seen, format!("2 None true {:?}", Some(b"first")));
}

#[tokio::test]
async fn both_generations_share_a_store() {
    let app = App::start(
        "[[trigger.http]]\nroute = '/old/...'\ncomponent = 'old'\n\
         [[trigger.http]]\nroute = '/new/...'\ncomponent = 'new'\n\
         [component.old]\nsource = '{probe-p2}'\nkey_value_stores = ['default']\n\
         [component.new]\nsource = '{probe}'\nkey_value_stores = ['default']\n",
    )
    .await;
    app.text("/new/key-value/default").await;

    let error = app.get("/old/atomics/default").await;

    assert_eq!(error.status, 500);
    assert!(error.text().contains("not a number"), "{}", error.text());
}
