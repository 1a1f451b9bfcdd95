//! Swapping components of a running system, as an operator does it.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use system_tests::components::{built, that_traps};
use system_tests::http::{Reply, request, send};
use system_tests::{Stack, StackOptions, config, eventually, forge};

/// `zlh component …` against a running system; what it wrote, or what it complained of.
async fn zlh(stack: &Stack, arguments: &[&str]) -> Result<String, String> {
    let output = stack.component_command(arguments).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout)),
        false => Err(text(&output.stderr)),
    }
}

async fn service(stack: &Stack) -> String {
    let reply = stack.api().call(Method::GET, "/api/health", None, None).await.expect(200);
    reply.json()["service"].as_str().expect("a service").to_owned()
}

/// The id of a new token: it tells which `identity` made it.
async fn new_token_id(stack: &Stack) -> String {
    let token = stack.api().login("admin@example.com").await.token;
    forge::claims(&token)["jti"].as_str().expect("an id").to_owned()
}

async fn listed(stack: &Stack, name: &str) -> Value {
    let said = zlh(stack, &["list", "--json"]).await.expect("a list");
    let list: Value = serde_json::from_str(&said).expect("JSON");
    let components = list["components"].as_array().expect("components");
    components.iter().find(|component| component["name"] == name).expect("it serves").clone()
}

#[tokio::test]
async fn a_handler_is_swapped_and_rolled_back_and_both_outlast_a_restart() {
    let mut stack = Stack::start_without_containers().await;
    assert_eq!(service(&stack).await, "zlh");

    let swapped = stack.swap("platform", &built("health_alt")).await.unwrap();

    assert_eq!(swapped["recomposed"], json!(["platform"]));
    assert_eq!(swapped["audited"], true);
    assert_eq!(service(&stack).await, "zlh-alt");
    stack.kill9().await;
    stack.restart().await;
    assert_eq!(service(&stack).await, "zlh-alt");
    let entry = listed(&stack, "platform").await;
    assert_eq!(entry["digest"], swapped["digest"]);
    assert_eq!(entry["previous"], json!([swapped["replaced"]]));

    zlh(&stack, &["rollback", "platform"]).await.unwrap();
    assert_eq!(service(&stack).await, "zlh");
    stack.kill9().await;
    stack.restart().await;
    assert_eq!(service(&stack).await, "zlh");
    assert_eq!(listed(&stack, "platform").await["swapped"], false);
    let again = zlh(&stack, &["rollback", "platform"]).await.unwrap_err();
    assert!(again.contains("no earlier file"), "{again}");
}

#[tokio::test]
async fn a_dependency_is_swapped_in_everything_that_is_composed_with_it() {
    let stack = Stack::start_without_containers().await;
    let before = stack.api().login("admin@example.com").await;
    assert!(!new_token_id(&stack).await.starts_with("alt-"));

    let swapped = stack.swap("identity", &built("identity_alt")).await.unwrap();

    assert_eq!(
        swapped["recomposed"],
        json!(["auth", "dev", "files", "platform", "servers", "tokens"])
    );
    assert!(new_token_id(&stack).await.starts_with("alt-"));
    // Tokens of the first are accepted by the second, and its by the first again.
    before.get("/api/auth/me").await.expect(200);
    let between = stack.api().login("admin@example.com").await;
    zlh(&stack, &["rollback", "identity"]).await.unwrap();
    assert!(!new_token_id(&stack).await.starts_with("alt-"));
    between.get("/api/auth/me").await.expect(200);
}

#[tokio::test]
async fn a_file_that_does_not_fit_changes_nothing_and_is_told_why() {
    let stack = Stack::start_without_containers().await;
    let folder = config::scratch("wasm");
    let real = std::fs::read(built("health_alt")).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let mut corrupt = real.clone();
    let middle = corrupt.len() / 2;
    corrupt[middle..middle + 64].fill(0xff);
    let before = listed(&stack, "platform").await;

    for (component, path, wanted) in [
        ("platform", file("empty", b""), "empty"),
        ("platform", file("text", b"#!/bin/sh\n"), "not WebAssembly"),
        ("platform", file("module", b"\0asm\x01\0\0\0"), "core module"),
        ("platform", file("truncated", &real[..real.len() / 3]), "`platform`"),
        ("platform", file("corrupt", &corrupt), "`platform`"),
        ("platform", file("trap", &that_traps("health_alt")), "it does not start"),
        ("identity", file("trap2", &that_traps("identity_alt")), "it does not start"),
        ("platform", built("identity_alt"), "a component with a route must export"),
        ("identity", built("health_alt"), "does not export `zlh:identity/"),
        // It asks for a key-value store and outbound HTTP, which `auth` and `platform` are not granted.
        ("auth", built("platform"), "spin:key-value/key-value@"),
        ("platform", built("dev"), "wasi:http/client@"),
        ("nobody", built("health_alt"), "no component `nobody`"),
    ] {
        let said = stack.swap(component, &path).await.unwrap_err();
        assert!(said.contains(wanted), "{component} {}: {said}", path.display());
    }

    assert_eq!(listed(&stack, "platform").await, before);
    assert_eq!(service(&stack).await, "zlh");
    let acts = stack.audit_log().await;
    let refused = acts.iter().filter(|act| act.2.contains("refused")).count();
    assert_eq!(refused, 12, "{acts:#?}");
}

#[tokio::test]
async fn a_file_can_be_looked_at_without_being_used() {
    let stack = Stack::start_without_containers().await;
    let path = built("health_alt");
    let path = path.to_string_lossy();

    let alone = zlh(&stack, &["check", &path]).await.unwrap();
    let fits = zlh(&stack, &["check", &path, "--as", "platform", "--json"]).await.unwrap();
    let unfit = zlh(&stack, &["check", &path, "--as", "identity"]).await.unwrap_err();
    let shown = zlh(&stack, &["inspect", "identity"]).await.unwrap();

    assert!(alone.contains("spin:sqlite/sqlite@"), "{alone}");
    let fits: Value = serde_json::from_str(&fits).unwrap();
    assert_eq!(
        fits["needs"],
        json!([
            "allowed_outbound_hosts",
            "environment",
            "key_value_stores",
            "sqlite_databases",
            "variables"
        ])
    );
    assert!(unfit.contains("does not export"), "{unfit}");
    assert!(shown.contains("zlh:identity/issuer@1.0.0"), "{shown}");
    assert_eq!(service(&stack).await, "zlh");
    assert_eq!(listed(&stack, "platform").await["swapped"], false);
}

#[tokio::test]
async fn every_act_is_in_the_audit_log() {
    let stack = Stack::start_without_containers().await;

    let swapped = stack.swap("platform", &built("health_alt")).await.unwrap();
    zlh(&stack, &["rollback", "platform"]).await.unwrap();

    let acts = stack.audit_log().await;
    let actions: Vec<_> = acts.iter().map(|act| (act.0.as_str(), act.1.as_str())).collect();
    assert_eq!(actions, [("component.swap", "platform"), ("component.rollback", "platform")]);
    assert!(acts[0].2.contains(swapped["digest"].as_str().unwrap()), "{acts:?}");
}

#[tokio::test]
async fn whoever_has_no_token_or_comes_from_a_page_changes_nothing() {
    let stack = Stack::start_without_containers().await;
    let token = std::fs::read_to_string(stack.data().join("secrets/admin-token")).unwrap();
    let bearer = format!("Bearer {token}");
    let ask = async |method: Method, path: &str, headers: &[(&str, &str)]| -> Reply {
        send(stack.admin_listener(), request(method, path, headers, None)).await.unwrap()
    };
    let rollback = "/components/platform/rollback";

    ask(Method::GET, "/components", &[]).await.expect(200);
    ask(Method::POST, rollback, &[("authorization", &bearer)]).await.expect(409);
    for path in [rollback, "/components/platform/swap", "/components/check", "/components/x/y"] {
        ask(Method::POST, path, &[]).await.expect(401);
        ask(Method::POST, path, &[("authorization", "Bearer wrong")]).await.expect(401);
    }
    for marked in
        [("origin", "http://127.0.0.1"), ("sec-fetch-site", "none"), ("host", "evil.example")]
    {
        ask(Method::POST, rollback, &[("authorization", &bearer), marked]).await.expect(403);
        ask(Method::GET, "/components", &[marked]).await.expect(403);
    }
    let public = stack.api().call(Method::GET, "/components", None, None).await;
    assert_eq!(public.status, 404);
}

#[tokio::test]
async fn components_of_their_own_process_are_swapped_there() {
    let stack = Stack::start_apart_without_containers().await;

    stack.swap("platform", &built("health_alt")).await.unwrap();

    assert_eq!(service(&stack).await, "zlh-alt");
    let elsewhere = send(stack.admin_listener(), request(Method::GET, "/components", &[], None));
    elsewhere.await.unwrap().expect(404);
}

#[tokio::test]
async fn a_second_swap_waits_for_nothing_and_is_refused() {
    let stack = Stack::start_without_containers().await;
    let (one, two) = (built("identity_alt"), built("health_alt"));

    let (first, second) = tokio::join!(stack.swap("identity", &one), stack.swap("platform", &two));

    // Whichever came second found the first under way, or over.
    for refused in [&first, &second].into_iter().filter_map(|done| done.as_ref().err()) {
        assert!(refused.contains("another swap is under way"), "{refused}");
    }
    assert!(first.is_ok() || second.is_ok());
    assert_eq!(new_token_id(&stack).await.starts_with("alt-"), first.is_ok());
    assert_eq!(service(&stack).await == "zlh-alt", second.is_ok());
}

#[tokio::test]
async fn a_death_during_a_swap_leaves_the_old_or_the_new_one_whole() {
    let mut stack = Stack::start_without_containers().await;

    for round in 0..6_u64 {
        let (component, file) = match round % 2 {
            0 => ("platform", "health_alt"),
            _ => ("identity", "identity_alt"),
        };
        let path = built(file);
        let path = path.to_string_lossy().into_owned();
        let mut swapping = stack.component_child(&["swap", component, &path]);
        // Later in each round, so that it dies at different points of a swap.
        let moment = Duration::from_millis(40 * round);
        let _ = tokio::time::timeout(moment, swapping.wait()).await;
        stack.kill9().await;
        let _ = swapping.wait().await;

        stack.restart().await;

        let up = async || stack.api().is_up().await;
        eventually(Duration::from_secs(10), up, |up| *up).await;
        let entry = listed(&stack, "platform").await;
        assert_eq!(service(&stack).await == "zlh-alt", entry["swapped"] == true, "{entry}");
        let entry = listed(&stack, "identity").await;
        assert_eq!(new_token_id(&stack).await.starts_with("alt-"), entry["swapped"] == true);
        for component in ["platform", "identity"] {
            let _ = zlh(&stack, &["rollback", component]).await;
        }
    }
}

#[tokio::test]
async fn with_an_allow_list_only_listed_files_run() {
    let folder = config::scratch("allowed");
    let list = folder.path().join("allowed");
    let pair = minisign::KeyPair::generate_unencrypted_keypair().unwrap();
    let sign = |entries: &[(&str, &str)]| {
        let lines = entries.iter().map(|(name, file)| {
            let digest = sha256(&std::fs::read(built(file)).unwrap());
            format!("{digest}  {name}\n")
        });
        let text: String = lines.collect();
        let signature = minisign::sign(None, &pair.sk, text.as_bytes(), None, None).unwrap();
        std::fs::write(&list, text).unwrap();
        std::fs::write(folder.path().join("allowed.minisig"), signature.into_string()).unwrap();
    };
    let ours = ["auth", "dev", "files", "identity", "platform", "servers", "tokens"];
    let ours: Vec<(&str, &str)> = ours.into_iter().map(|name| (name, name)).collect();
    sign(&ours[1..]);
    let options = StackOptions::default()
        .with("ZLH_COMPONENT_ALLOW_LIST", list.to_string_lossy())
        .with("ZLH_COMPONENT_ALLOW_LIST_KEY", pair.pk.to_base64());
    let mut stack = Stack::prepare(options);

    stack.try_restart().await.expect_err("zlh started with an unlisted component");
    assert!(stack.log().contains("the file of `auth` (sha256 "), "{}", stack.log());

    sign(&ours);
    stack.restart().await;
    let said = stack.swap("platform", &built("health_alt")).await.unwrap_err();
    assert!(said.contains("is not on the allow-list"), "{said}");

    // The list may grow while zlh runs.
    sign(&[&ours[..], &[("platform", "health_alt")]].concat());
    stack.swap("platform", &built("health_alt")).await.unwrap();
    assert_eq!(service(&stack).await, "zlh-alt");
    let said = stack.swap("identity", &built("identity_alt")).await.unwrap_err();
    assert!(said.contains("is not on the allow-list"), "{said}");
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_starting_point_builds_outside_the_repository_and_fits() {
    let stack = Stack::start_without_containers().await;
    let folder = config::scratch("new");
    // Its dependencies are compiled once for all runs.
    let target = config::root().join("target/starting-points");

    for (name, module, arguments, component) in [
        ("my-dev", "my_dev", vec!["new", "my-dev"], "dev"),
        ("my-identity", "my_identity", vec!["new", "my-identity", "--dependency"], "identity"),
    ] {
        let made = tokio::process::Command::new(config::zlh())
            .arg("component")
            .args(arguments)
            .current_dir(folder.path())
            .output();
        assert!(made.await.unwrap().status.success());
        let built = tokio::process::Command::new("cargo")
            .args(["build", "--release", "--target", "wasm32-wasip2", "--target-dir"])
            .arg(&target)
            .current_dir(folder.path().join(name))
            .output();
        let built = built.await.unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));

        let file = target.join(format!("wasm32-wasip2/release/{module}.wasm"));
        let file = file.to_string_lossy();
        zlh(&stack, &["check", &file, "--as", component]).await.unwrap();
        zlh(&stack, &["swap", component, &file]).await.unwrap();
    }

    // As it is, it lets nobody in.
    let body =
        json!({ "identifier": "admin@example.com", "password": system_tests::api::PASSWORD });
    let reply = stack.api().call(Method::POST, "/api/auth/login", None, Some(&body)).await;
    assert!(reply.status.is_server_error(), "{reply:?}");
    zlh(&stack, &["rollback", "identity"]).await.unwrap();
    stack.api().login("admin@example.com").await;
}
