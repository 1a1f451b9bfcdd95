//! The running system keeps to `docs/openapi.json`, whatever schemathesis sends it.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a test that cannot go on panics and says why"
)]

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;
use system_tests::{Stack, StackOptions, config};

/// Requests that are made up for each operation and kind of data, the same in each run.
const FLAGS: &str = "--max-examples 10 --seed 1";
/// Longest run, with flags that somebody chose, too.
const LIMIT: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn the_running_system_is_as_it_is_described() {
    // Each is a real container.
    let options = StackOptions::default().with("SPIN_VARIABLE_MAX_INSTANCES_PER_USER", "4");
    let stack = Stack::start_with(options).await;
    let ann = stack.api().register("ann").await;
    stack.api().register("bob").await;
    // The numbers that schemathesis.toml has.
    assert_eq!(ann.create_dev(true).await, 6000);
    assert_eq!(ann.create_dev(false).await, 6001);

    let folder = config::scratch("description");
    for file in ["schemathesis.toml", "users.json"] {
        let source = config::root().join("tests/description").join(file);
        std::fs::copy(source, folder.path().join(file)).expect("a copy");
    }
    let flags = config::setting("ZLH_SCHEMATHESIS").unwrap_or_else(|| FLAGS.into());
    let run = tokio::process::Command::new(config::schemathesis())
        .current_dir(folder.path())
        .args(["run", &format!("http://{}/api/openapi.json", stack.api().address)])
        .args(["--checks", "all", "--mode", "all", "--no-color"])
        .args(flags.to_string_lossy().split_whitespace())
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(LIMIT, run).await.expect("an end").expect("its output");

    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}\n{said}", String::from_utf8_lossy(&output.stderr));
    // It succeeds as well when there is nothing that it tested.
    let described = std::fs::read(config::root().join("docs/openapi.json")).expect("a document");
    let described: Value = serde_json::from_slice(&described).expect("JSON");
    let paths = described["paths"].as_object().expect("paths").values();
    let operations: usize = paths.map(|path| path.as_object().expect("operations").len()).sum();
    // All but the one that the document came from: that it is right is a contract test.
    assert!(said.contains(&format!("Tested: {}\n", operations - 1)), "{said}");
}
