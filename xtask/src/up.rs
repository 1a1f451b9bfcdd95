//! `cargo xtask up`: builds everything, then becomes `zlh up`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::Context as _;

use crate::shell::{note, phase};
use crate::workspace::Workspace;
use crate::{artifacts, build, setup};

/// Where root keeps the data: container users must be able to reach their folder, which they cannot
/// below a home.
const ROOT_DATA_DIR: &str = "/var/lib/zlh";

/// Builds, then replaces this process by `zlh up`, so that signals reach it.
///
/// # Errors
/// When something cannot be built or started.
pub(crate) fn run(workspace: &Workspace, flags: &[String]) -> anyhow::Result<()> {
    setup::wasm_target()?;
    if !artifacts::are_made(workspace) {
        // What is missing is said before the build, which takes minutes.
        setup::artifact_tools()?;
    }
    build::components(workspace)?;
    build::programs(workspace, false)?;
    artifacts::make(workspace, false)?;

    let zlh = workspace.target.join("debug/zlh");
    let arguments = arguments(workspace, flags, setup::is_root()?);
    phase("Starting zlh");
    note(&format!(
        "$ {} {}",
        zlh.display(),
        arguments.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    ));
    let error = Command::new(&zlh).args(arguments).exec();
    Err(error).with_context(|| format!("could not start {}", zlh.display()))
}

/// The flags given, and a default for each that is needed and was not.
fn arguments(workspace: &Workspace, flags: &[String], root: bool) -> Vec<OsString> {
    let data_dir = if root { ROOT_DATA_DIR.into() } else { workspace.root.join(".zlh") };
    let defaults = [
        ("--manifest", workspace.root.join("spin.toml")),
        ("--artifacts", workspace.root.join(artifacts::FOLDER)),
        ("--data-dir", data_dir),
    ];

    let mut arguments = vec![OsString::from("up")];
    for (name, value) in defaults {
        let given = |flag: &String| {
            flag == name || flag.strip_prefix(name).is_some_and(|rest| rest.starts_with('='))
        };
        if !flags.iter().any(given) {
            arguments.push(name.into());
            arguments.push(value.into());
        }
    }
    arguments.extend(flags.iter().map(OsString::from));
    arguments
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(flags: &[&str], root: bool) -> String {
        let workspace = Workspace {
            root: "/repo".into(),
            target: "/repo/target".into(),
            packages: Default::default(),
        };
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        arguments(&workspace, &flags, root).join(" ".as_ref()).into_string().unwrap()
    }

    #[test]
    fn a_flag_that_was_given_replaces_its_default() {
        assert_eq!(
            joined(&["--data-dir=/d", "--artifacts", "/a", "--json"], true),
            "up --manifest /repo/spin.toml --data-dir=/d --artifacts /a --json"
        );
    }

    #[test]
    fn container_users_can_reach_roots_data() {
        assert!(joined(&[], true).ends_with("--data-dir /var/lib/zlh"));
        assert!(joined(&[], false).ends_with("--data-dir /repo/.zlh"));
    }
}
