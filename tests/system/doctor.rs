//! `zlh doctor` finds nothing in a healthy folder, and names what is wrong in others.

use std::collections::BTreeMap;

use serde_json::Value;
use system_tests::databases::Databases;
use system_tests::{Stack, StackOptions, config};

/// Findings by check, when it ended as its report says.
struct Report(BTreeMap<String, Value>);

impl Report {
    async fn of(stack: &Stack) -> Self {
        let output = stack.doctor().await;
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
            panic!("{error}: {output:?}");
        });
        assert_eq!(report["ok"], output.status.success(), "{report:#}");
        let checks = report["checks"].as_array().unwrap().iter();
        Self(
            checks
                .map(|found| (found["check"].as_str().unwrap().to_owned(), found.clone()))
                .collect(),
        )
    }

    /// Names of what is wrong.
    fn wrong(&self) -> Vec<&str> {
        let wrong = self.0.iter().filter(|(_, found)| found["verdict"] == "wrong");
        wrong.map(|(check, _)| check.as_str()).collect()
    }

    #[track_caller]
    fn assert_wrong(&self, check: &str, text: &str, remedy: &str) {
        assert_eq!(self.wrong(), [check], "{:#?}", self.0);
        let found = &self.0[check];
        assert!(found["text"].as_str().unwrap().contains(text), "{found}");
        assert!(found["remedy"].as_str().unwrap().contains(remedy), "{found}");
    }
}

#[tokio::test]
async fn a_healthy_folder_is_healthy_before_while_and_after_zlh_runs() {
    let mut stack = Stack::prepare(StackOptions::default());

    let before = Report::of(&stack).await;
    stack.restart().await;
    let during = Report::of(&stack).await;
    stack.terminate().await;
    let after = Report::of(&stack).await;

    for report in [&before, &during, &after] {
        assert_eq!(report.wrong(), [""; 0], "{:#?}", report.0);
    }
    let text = |report: &Report, check: &str| report.0[check]["text"].as_str().unwrap().to_owned();
    assert!(text(&before, "lock").starts_with("free"));
    assert!(text(&during, "lock").starts_with("held by"));
    assert!(text(&during, "--listen").contains("zlh is alive"));
    assert!(text(&after, "--listen").contains("is free"));
    assert!(text(&after, "database").contains("its schema at version"));
    assert!(text(&before, "components").contains("platform"));
}

#[tokio::test]
async fn a_missing_component_file_is_named() {
    let folder = config::scratch("manifest");
    let manifest = folder.path().join("spin.toml");
    let real = std::fs::read_to_string(config::manifest()).unwrap();
    let target = config::root().join("target");
    let real = real.replace("\"target/", &format!("\"{}/", target.display()));
    std::fs::write(&manifest, real.replace("tokens.wasm", "missing.wasm")).unwrap();
    let options = StackOptions { manifest: Some(manifest), ..StackOptions::default() };

    let report = Report::of(&Stack::prepare(options)).await;

    report.assert_wrong("components", "missing.wasm", "cargo xtask build");
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_flag() {
    let stack = Stack::prepare(StackOptions::default());
    let _taken = std::net::TcpListener::bind(stack.api().address).unwrap();

    let report = Report::of(&stack).await;

    report.assert_wrong("--listen", &stack.api().address.to_string(), "--listen");
}

#[tokio::test]
async fn a_wrong_database_url_is_named_without_its_password() {
    let wrong = "mysql://zlh:hunter2@db.example/zlh";
    let stack = Stack::prepare(StackOptions::default().with("ZLH_DATABASE_URL", wrong));

    let report = Report::of(&stack).await;

    report.assert_wrong("settings", "ZLH_DATABASE_URL", "correct it");
    assert!(!format!("{:?}", report.0).contains("hunter2"));
}

#[tokio::test]
async fn databases_that_are_gone_are_named() {
    let databases = Databases::start().await;
    let options = StackOptions { databases: Some(databases.clone()), ..StackOptions::default() };
    let mut stack = Stack::prepare(options);
    stack.assign_databases().await;

    let reached = Report::of(&stack).await;
    assert_eq!(reached.wrong(), [""; 0], "{:#?}", reached.0);
    assert!(reached.0["database"]["text"].as_str().unwrap().contains("PostgreSQL"));
    assert!(reached.0["clock"]["text"].as_str().unwrap().contains(" s from the database's"));
    assert!(reached.0["redis"]["text"].as_str().unwrap().contains("answers"));
    databases.redis.stop();
    Report::of(&stack).await.assert_wrong("redis", "`agents`", "start it");
    databases.redis.start();
    databases.ready().await;
    databases.postgres.stop();
    Report::of(&stack).await.assert_wrong("database", "127.0.0.1", "ZLH_DATABASE_URL");
}

#[tokio::test]
async fn a_secret_that_others_may_read_is_named() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut stack = Stack::prepare(StackOptions::default());
    stack.restart().await;
    stack.terminate().await;
    let secret = stack.data().join("secrets/agent-secret");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).unwrap();

    let report = Report::of(&stack).await;

    report.assert_wrong("secrets", "agent-secret", "chmod");
}

#[tokio::test]
async fn looking_makes_no_file_of_the_runtime_configuration() {
    let folder = config::scratch("stores");
    let file = folder.path().join("runtime-config.toml");
    let report = async |path: &std::path::Path| {
        let text = format!(
            "[sqlite_database.default]\ntype = \"spin\"\npath = {path:?}\n\
             [key_value_store.agents]\ntype = \"spin\"\npath = \"kept/agents.db\"\n"
        );
        std::fs::write(&file, text).unwrap();
        let options =
            StackOptions::default().with("ZLH_RUNTIME_CONFIG", file.display().to_string());
        Report::of(&Stack::prepare(options)).await
    };

    let found = report(&folder.path().join("new/zlh.db")).await;
    assert_eq!(found.wrong(), [""; 0], "{:#?}", found.0);
    let left = std::fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 1, "only the configuration itself");

    let within_a_file = report(&file.join("zlh.db")).await;
    within_a_file.assert_wrong("runtime configuration", "zlh.db", "correct the path");
}
