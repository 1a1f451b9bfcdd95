//! What a stanza grants is there, and nothing else is.

use bytes::Bytes;
use http::Method;
use system_tests::app::{App, AppOptions};
use system_tests::stub::Stub;

const ROUTE: &str = "[[trigger.http]]\nroute = '/...'\ncomponent = 'probe'\n";
const PROBE: &str = "[component.probe]\nsource = '{probe}'\n";

async fn probe(grants: &str) -> App {
    App::start(&format!("{ROUTE}{PROBE}{grants}")).await
}

/// The start of what a refused probe says.
async fn refusal(app: &App, path: &str) -> String {
    let reply = app.get(path).await;
    assert!(reply.status == 500 || reply.status == 502, "{} {}", reply.status, reply.text());
    reply.text()
}

#[tokio::test]
async fn variables_are_expanded_from_what_is_given_and_their_defaults() {
    let app = App::of(AppOptions {
        manifest: format!(
            "{ROUTE}{PROBE}variables = {{ both = '{{{{ given }}}}-{{{{ defaulted }}}}' }}\n\
             [variables]\ngiven = {{ required = true, secret = true }}\ndefaulted = {{ default = 'd' }}\n"
        ),
        variables: vec![("SPIN_VARIABLE_GIVEN", "g".to_owned())],
        ..AppOptions::default()
    })
    .await;

    assert_eq!(app.text("/variable/both").await, "g-d");
    assert!(
        refusal(&app, "/variable/given").await.starts_with("Error::Undefined"),
        "only its stanza's"
    );
    assert!(refusal(&app, "/variable/Not-a-name").await.starts_with("Error::InvalidName"));
}

#[tokio::test]
async fn the_environment_is_that_of_the_stanza_and_not_the_hosts() {
    let app = probe("environment = { GREETING = 'hello' }\n").await;

    assert_eq!(app.text("/env/GREETING").await, "hello");
    assert_eq!(refusal(&app, "/env/PATH").await, "NotPresent");
}

#[tokio::test]
async fn files_are_mounted_where_the_manifest_says_and_cannot_be_changed() {
    let app = App::of(AppOptions {
        manifest: format!(
            "{ROUTE}{PROBE}files = ['assets/**/*.txt', {{ source = 'other', destination = '/moved' }}]\n\
             exclude_files = ['**/private.txt']\n"
        ),
        files: vec![
            ("assets/a/one.txt", "one"),
            ("assets/private.txt", "private"),
            ("assets/two.md", "two"),
            ("other/three", "three"),
            ("outside", "outside"),
        ],
        ..AppOptions::default()
    })
    .await;

    assert_eq!(app.text("/file/assets/a/one.txt").await, "one");
    assert_eq!(app.text("/file/moved/three").await, "three");
    for hidden in ["assets/private.txt", "assets/two.md", "outside", "../app/outside", "etc/passwd"]
    {
        let path = format!("/file/{hidden}");
        let reply = app.call(Method::GET, &path, &[], Bytes::new()).await.unwrap();
        assert_eq!(reply.status, 500, "{hidden}: {}", reply.text());
    }
    for path in ["/write/moved/three", "/write/new"] {
        refusal(&app, path).await;
    }
    assert_eq!(app.text("/file/moved/three").await, "three");
}

#[tokio::test]
async fn without_a_grant_there_are_no_files_at_all() {
    let app = probe("").await;

    refusal(&app, "/file/etc/passwd").await;
    refusal(&app, "/write/new").await;
}

#[tokio::test]
async fn a_store_is_open_to_those_that_are_granted_it() {
    let app = probe("key_value_stores = ['default']\nsqlite_databases = ['default']\n").await;

    let counted = [app.text("/key-value/default").await, app.text("/key-value/default").await];
    let rows = [app.text("/sqlite/default").await, app.text("/sqlite/default").await];

    assert_eq!(counted, ["1", "2"]);
    assert_eq!(rows, ["7 1", "7 2"]);
    assert_eq!(refusal(&app, "/key-value/other").await, "Error::AccessDenied");
    assert_eq!(refusal(&app, "/sqlite/other").await, "Error::AccessDenied");
}

#[tokio::test]
async fn without_a_grant_no_store_and_no_database_opens() {
    let app = probe("").await;

    assert_eq!(refusal(&app, "/key-value/default").await, "Error::AccessDenied");
    assert_eq!(refusal(&app, "/sqlite/default").await, "Error::AccessDenied");
}

#[tokio::test]
async fn only_allowed_hosts_are_called() {
    let (allowed, other) =
        (Stub::start(|_| (200, "hi".into())).await, Stub::start(|_| (200, "".into())).await);
    let app = probe(&format!("allowed_outbound_hosts = ['http://{}']\n", allowed.address)).await;

    let answer = app.text(&format!("/get?http://{}/path", allowed.address)).await;
    let denied = refusal(&app, &format!("/get?http://{}/path", other.address)).await;
    let by_name = format!("/get?http://localhost:{}/path", other.address.port());
    let by_name = refusal(&app, &by_name).await;

    assert_eq!(answer, "200\nhi");
    assert!(denied.contains("HttpRequestDenied"), "{denied}");
    assert!(by_name.contains("HttpRequestDenied"), "{by_name}");
    assert_eq!(allowed.asked(), ["GET /path"]);
    assert!(other.asked().is_empty(), "{:?}", other.asked());
}

#[tokio::test]
async fn sockets_are_not_opened_for_anyone() {
    let stub = Stub::start(|_| (200, String::new())).await;
    let app = probe(&format!("allowed_outbound_hosts = ['*://{}']\n", stub.address)).await;

    refusal(&app, &format!("/socket/{}", stub.address)).await;
}
