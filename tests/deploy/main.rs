//! What is in `deploy/` names what there is: programs, files, routes, variables, and each other.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics and says why"
)]

mod container;
mod kubernetes;
mod systemd;

use std::path::PathBuf;

use system_tests::config;

/// A file of `deploy/`.
fn file(path: &str) -> PathBuf {
    config::root().join("deploy").join(path)
}

fn text(path: &str) -> String {
    let path = file(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Names of the settings in a file of `NAME=value` lines, those in comments included, must be ours.
fn assert_settings_are_known(path: &str) {
    let source = |name: &str| {
        std::fs::read_to_string(config::root().join("host-proxy/src").join(name)).unwrap()
    };
    let known = format!("{}{}", source("config.rs"), source("config/env.rs"));
    let text = text(path);
    let assigned = text.lines().filter_map(|line| line.trim_start_matches('#').split_once('='));
    let names: Vec<_> = assigned.map(|(name, _)| name).filter(|name| !name.contains(' ')).collect();
    assert!(!names.is_empty(), "{path}");
    for name in names {
        assert!(known.contains(&format!("\"{name}\"")), "{path}: zlh has no setting `{name}`");
    }
}
