//! What the host decides before any component runs.

use super::*;

fn request(uri: &str, host: Option<&str>) -> Request<Body> {
    let mut request = Request::builder().uri(uri);
    if let Some(host) = host {
        request = request.header(header::HOST, host);
    }
    request.body(empty()).unwrap()
}

fn url(uri: &str, host: Option<&str>) -> Option<String> {
    full_url(&request(uri, host), &Scheme::HTTPS).map(|url| url.to_string())
}

#[test]
fn a_guest_sees_a_complete_url() {
    assert_eq!(url("/a?b", Some("h:1")).as_deref(), Some("https://h:1/a?b"));
    assert_eq!(url("http://h/a", Some("h")).as_deref(), Some("https://h/a"));
    assert_eq!(url("http://h/a", None).as_deref(), Some("https://h/a"));
}

#[test]
fn a_request_of_no_host_or_of_two_is_refused() {
    assert_eq!(url("/a", None), None);
    assert_eq!(url("http://h/a", Some("other")), None);
    assert_eq!(url("/a", Some("not a host")), None);
}

async fn load(manifest: &str) -> Result<Arc<ComponentHost>, HostError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spin.toml");
    std::fs::write(&path, format!("spin_manifest_version = 2\n{manifest}")).unwrap();
    let (state_dir, limits) = (folder.path().join("state"), Limits::default());
    ComponentHost::load(HostOptions {
        manifest: path,
        runtime_config: None,
        embedded_stores: &[],
        environment: |_| None,
        state_dir,
        variables: BTreeMap::new(),
        limits,
        allow_list: None,
    })
    .await
}

async fn load_error(manifest: &str) -> String {
    let error = load(manifest).await.err().unwrap();
    let causes = std::iter::successors(std::error::Error::source(&error), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[tokio::test]
async fn what_stops_the_start_is_named() {
    let app = "application = { name = 'a' }\n";
    let routed = format!("{app}[[trigger.http]]\nroute = '/'\ncomponent = 'x'\n[component.x]\n");

    let variable = load_error(&format!("{app}[variables]\nneeded = {{ required = true }}")).await;
    let missing = load_error(&format!("{routed}source = 'missing.wasm'")).await;
    let hosts = format!("{routed}source = 'x'\nallowed_outbound_hosts = ['nowhere']");
    let hosts = load_error(&hosts).await;
    let store = load_error(&format!("{routed}source = 'x'\nkey_value_stores = ['agents']")).await;
    let database = load_error(&format!("{routed}source = 'x'\nsqlite_databases = ['books']")).await;

    assert!(
        variable.contains("spin.toml") && variable.contains("`variables.needed`"),
        "{variable}"
    );
    assert!(missing.contains("`x`") && missing.contains("missing.wasm"), "{missing}");
    assert!(hosts.contains("`component.x.allowed_outbound_hosts`: `nowhere`"), "{hosts}");
    assert!(store.contains("`component.x.key_value_stores`"), "{store}");
    assert!(store.contains("`[key_value_store.agents]`"), "{store}");
    assert!(database.contains("`component.x.sqlite_databases`"), "{database}");
    assert!(database.contains("`[sqlite_database.books]`"), "{database}");
}

#[tokio::test]
async fn without_a_route_there_is_an_empty_404_and_spins_own_paths_still_answer() {
    let host = load("application = { name = 'a' }").await.unwrap();
    let get = async |uri| {
        let origin = RequestOrigin { client: ([192, 0, 2, 1], 1).into(), scheme: Scheme::HTTP };
        host.handle(request(uri, Some("h")), origin).await
    };

    let nothing = get("/x").await;
    let health = get("/.well-known/spin/health").await;

    assert_eq!(nothing.status(), StatusCode::NOT_FOUND);
    assert!(http_body::Body::is_end_stream(nothing.body()));
    assert_eq!(health.status(), StatusCode::OK);
    host.shutdown().await;
    assert_eq!(get("/x").await.status(), StatusCode::SERVICE_UNAVAILABLE);
}
