use std::net::TcpListener;
use std::path::Path;

use super::*;
use crate::config::{Environment, Flags};
use crate::data_dir::{DataDir, Half};

fn config(data_dir: &Path) -> Config {
    let flags =
        Flags::default().with("--data-dir", "ZLH_DATA_DIR", Some(data_dir.display().to_string()));
    let free = |name: &str| name.ends_with("LISTEN").then(|| "127.0.0.1:0".to_owned());
    Config::from_vars(&flags, &Environment::default(), free).unwrap()
}

fn wrong(verdict: Verdict) -> (String, String) {
    match verdict {
        Verdict::Wrong { text, remedy } => (text, remedy),
        verdict => panic!("{verdict:?}"),
    }
}

#[tokio::test]
async fn a_setting_that_is_wrong_is_the_only_finding() {
    let flags = Flags::default().with("--listen", "ZLH_LISTEN", Some("here".to_owned()));
    let config = Config::from_vars(&flags, &Environment::default(), |_| None);

    let report = examine(config).await;

    assert!(!report.ok);
    assert_eq!(report.checks.len(), 1);
    assert!(report.table().starts_with("WRONG  settings"), "{}", report.table());
    assert!(report.table().contains("--listen"));
}

#[tokio::test]
async fn a_folder_is_looked_at_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let missing = config(&folder.path().join("data"));

    folder::data_dir(&missing).await;

    assert!(matches!(folder::lock(&missing).await, Verdict::Ok { .. }));
    assert!(matches!(folder::secrets(&missing).await, Verdict::Ok { .. }));
    assert!(matches!(database::database(&missing).await, Verdict::Ok { .. }));
    assert!(!folder.path().join("data").exists());
    std::fs::write(folder.path().join("data"), "").unwrap();
    assert!(wrong(folder::data_dir(&missing).await).0.contains("not a folder"));
}

#[tokio::test]
async fn an_address_is_taken_by_zlh_only_if_one_uses_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    // An address that no other test takes once it is free again.
    let taken = TcpListener::bind("127.0.0.87:0").unwrap();
    let address = taken.local_addr().unwrap();
    let config = config(folder.path());

    let (text, remedy) = wrong(listeners::listener(&config, "--listen", address).await);
    assert!(text.contains(&address.to_string()), "{text}");
    assert!(remedy.contains("--listen"), "{remedy}");

    // One that holds the folder, and answers nowhere.
    let _held = DataDir::open(folder.path(), &[Half::Proxy]).unwrap();
    wrong(listeners::listener(&config, "--listen", address).await);
    let held = folder::lock(&config).await;
    assert!(matches!(&held, Verdict::Ok { text } if text.contains("held by")), "{held:?}");
    drop(taken);
    let free = listeners::listener(&config, "--listen", address).await;
    assert!(matches!(free, Verdict::Ok { .. }), "{free:?}");
}

#[tokio::test]
async fn the_agent_is_asked_for_its_version() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path());

    config.node.agent_binary = folder.path().join("zlh-agent");
    assert!(wrong(artifacts::agent(&config).await).1.contains("ZLH_AGENT_BINARY"));
    config.node.agent_binary = "/bin/echo".into();
    assert!(wrong(artifacts::agent(&config).await).0.contains("is not the agent"));
}
