//! A wrong setting stops the start with a sentence that names it.

use system_tests::{Stack, StackOptions, config};

async fn refused(options: StackOptions) -> String {
    let mut stack = Stack::prepare(options);
    let status = stack.try_restart().await.expect_err("zlh started");
    assert!(!status.success());
    stack.log()
}

#[tokio::test]
async fn a_wrong_value_is_named() {
    for (name, value) in [
        ("ZLH_PORT_RANGE", "nonsense"),
        ("API_AUTH_TTL_SECONDS", "soon"),
        ("DEV_IDE_RETURN_HOSTED_URL", "maybe"),
        ("DEV_IDE_PUBLIC_SCHEME", "gopher"),
        ("ZLH_BOOTSTRAP_PASSWORD", "short"),
        ("ZLH_LOG", "zlh=loud"),
        ("ZLH_LOG_FORMAT", "xml"),
        ("SPIN_VARIABLE_REFRESH_TTL_SECONDS", "a fortnight"),
    ] {
        let log = refused(StackOptions::default().with(name, value)).await;
        assert!(log.contains(name), "{name}: {log}");
    }
}

#[tokio::test]
async fn a_manifest_that_cannot_be_served_is_named_with_what_is_wrong() {
    let folder = config::scratch("manifest");
    let real = std::fs::read_to_string(config::manifest()).unwrap();
    // Paths in a manifest start at its folder.
    let target = config::root().join("target");
    let real = real.replace("\"target/", &format!("\"{}/", target.display()));
    let manifest = folder.path().join("spin.toml");

    for (text, wanted) in [
        ("not toml at all".to_owned(), "spin.toml"),
        (real.replace("tokens.wasm", "missing.wasm"), "missing.wasm"),
        (real.replace("[component.auth]", "[component.auth]\nfiles = [\"x\"]"), "files"),
        (real.replace("component = \"auth\"", "component = \"nobody\""), "nobody"),
    ] {
        std::fs::write(&manifest, text).unwrap();
        let options = StackOptions { manifest: Some(manifest.clone()), ..StackOptions::default() };
        let log = refused(options).await;
        assert!(log.contains(wanted), "{wanted}: {log}");
    }
}

#[tokio::test]
async fn two_of_them_do_not_share_a_data_folder() {
    let stack = Stack::start_without_containers().await;

    let second = stack.second_on_the_same_folder().await;

    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another zlh uses the data folder"), "{said}");
    assert!(stack.api().is_up().await);
}
