//! The units are valid, and keep containers running.

use std::process::Command;

use system_tests::config;

use crate::{assert_settings_are_known, text};

#[test]
fn the_units_are_valid() {
    let folder = config::scratch("units");
    let zlh = config::zlh();
    let service = text("systemd/zlh.service").replace("/opt/zlh/zlh", &zlh.to_string_lossy());
    let units = ["zlh.service", "zlh.socket"].map(|name| folder.path().join(name));
    std::fs::write(&units[0], service).unwrap();
    std::fs::write(&units[1], text("systemd/zlh.socket")).unwrap();

    let output = Command::new("systemd-analyze").arg("verify").args(&units).output();
    let output = output.expect("systemd-analyze, of Debian's package systemd");

    // A key that is not known is no failure, only a warning.
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<_> = said.lines().filter(|line| line.contains("zlh.")).collect();
    assert!(output.status.success() && ours.is_empty(), "{said}");
}

#[test]
fn what_zlh_started_outlives_it() {
    let service = text("systemd/zlh.service");
    let set: Vec<_> = service.lines().collect();

    for line in ["KillMode=process", "OOMPolicy=continue", "StateDirectoryMode=0711"] {
        assert!(set.contains(&line), "{line}");
    }
    // Each of these would take something from the containers that go on, or from what they may run.
    for key in ["PrivateTmp=", "PrivateUsers=", "DynamicUser=", "MemoryDenyWriteExecute="] {
        assert!(!set.iter().any(|line| line.starts_with(key)), "{key}");
    }
}

#[test]
fn its_settings_are_those_of_zlh() {
    assert_settings_are_known("systemd/zlh.env");
}
