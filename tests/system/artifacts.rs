//! Runtimes come from the artifact store, and only as the store's catalogue describes them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::{Value, json};
use system_tests::{Stack, StackOptions, config, ports};

use crate::failures::nothing_is_left;

/// A store like the repository's, its dev catalogue being changed.
fn store(folder: &Path, change: impl FnOnce(&mut Value)) {
    let real = config::artifacts();
    fs::create_dir(folder.join("devcontainer")).unwrap();
    fs::copy(real.join("_catalog.json"), folder.join("_catalog.json")).unwrap();
    let catalog = fs::read_to_string(real.join("devcontainer/_catalog.json")).unwrap();
    let mut catalog: Value = serde_json::from_str(&catalog).unwrap();
    for package in
        catalog["runtimes"].as_array().unwrap().iter().chain(catalog["addons"].as_array().unwrap())
    {
        let path = package["versions"][0]["path"].as_str().unwrap();
        if fs::hard_link(real.join(path), folder.join(path)).is_err() {
            symlink(real.join(path), folder.join(path)).unwrap();
        }
    }
    change(&mut catalog);
    fs::write(folder.join("devcontainer/_catalog.json"), catalog.to_string()).unwrap();
}

#[tokio::test]
async fn an_archive_with_another_hash_is_not_unpacked_and_everything_is_undone() {
    let folder = config::scratch("store");
    let wrong = "0123456789abcdef".repeat(4);
    let mut right = Value::Null;
    store(folder.path(), |catalog| {
        right = catalog["runtimes"][0]["versions"][0].clone();
        catalog["runtimes"][0]["versions"][0]["sha256"] = json!(wrong);
    });
    // One port: the second creation works only if the first one gave it back.
    let port = ports::free().to_string();
    let options =
        StackOptions { artifacts: Some(folder.path().to_owned()), ..StackOptions::default() };
    let stack = Stack::start_with(options.with("ZLH_PORT_RANGE", format!("{port}-{port}"))).await;
    let session = stack.api().register("ann").await;

    let started = session.start_dev(false).await;
    let operation = session.operation_end(&started.operation).await;

    assert_eq!(operation["status"], "failed", "{operation:#}");
    let error = operation["error"].to_string();
    let file = right["path"].as_str().unwrap().rsplit('/').next().unwrap();
    for part in [file, &wrong, right["sha256"].as_str().unwrap()] {
        assert!(error.contains(part), "`{part}` is not in {error}");
    }
    nothing_is_left(&stack, started.vmid).await;
    assert_eq!(session.get("/api/instances").await.expect(200).json()["rows"], json!([]));

    // With the right hash the same store works.
    let catalog = folder.path().join("devcontainer/_catalog.json");
    let text =
        fs::read_to_string(&catalog).unwrap().replace(&wrong, right["sha256"].as_str().unwrap());
    fs::write(&catalog, text).unwrap();
    session.create_dev(false).await;
}
