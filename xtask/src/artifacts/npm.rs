//! Installs the npm packages that are packed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use super::pack::size_of;
use crate::shell::{self, megabytes, note};

/// Written last: an installation without it was interrupted.
const DONE: &str = ".installed";

/// An installed Node.
pub(super) struct Node {
    /// The program.
    pub(super) program: PathBuf,
    /// The package `npm`.
    pub(super) npm: PathBuf,
    /// Its headers, for native modules.
    headers: Option<PathBuf>,
}

/// Installs Node and npm.
pub(super) fn install_node(work: &Path, node: &str, npm: &str) -> anyhow::Result<Node> {
    let folder = work.join(format!("node-{node}-npm-{npm}"));
    install(&folder, Command::new("npm"), &[&format!("node@{node}"), &format!("npm@{npm}")])?;

    let modules = folder.join("node_modules");
    let program = modules.join("node/bin/node");
    let version = shell::output(Command::new(&program).arg("--version"))?;
    if version.trim() != format!("v{node}") {
        bail!("{} says that it is {}, not v{node}", program.display(), version.trim());
    }
    Ok(Node { headers: headers(&modules.join("node"))?, npm: modules.join("npm"), program })
}

/// Installs code-server with that Node, which its installation insists on; answers the folder
/// `node_modules` that has it and what it needs.
pub(super) fn install_code_server(
    work: &Path,
    version: &str,
    node: &Node,
) -> anyhow::Result<PathBuf> {
    let folder = work.join(format!("codeserver-{version}"));
    let programs = node.program.parent().context("Node lies in no folder")?;
    let mut npm = Command::new(&node.program);
    npm.arg(node.npm.join("bin/npm-cli.js")).env("PATH", shell::path_with(programs)?);
    if let Some(headers) = &node.headers {
        npm.env("npm_config_nodedir", headers);
    }
    install(&folder, npm, &[&format!("code-server@{version}")])?;
    Ok(folder.join("node_modules"))
}

/// Installs a package that any Node will do for; answers the folder `node_modules` that has it and what it needs.
pub(super) fn install_package(work: &Path, name: &str, version: &str) -> anyhow::Result<PathBuf> {
    let folder = work.join(format!("{name}-{version}"));
    install(&folder, Command::new("npm"), &[&format!("{name}@{version}")])?;
    Ok(folder.join("node_modules"))
}

/// `npm install`, unless that was done before.
fn install(folder: &Path, mut npm: Command, packages: &[&str]) -> anyhow::Result<()> {
    let wanted = packages.join(" ");
    if fs::read_to_string(folder.join(DONE)).is_ok_and(|installed| installed == wanted) {
        note(&format!("{wanted}: installed already"));
        return Ok(());
    }
    super::fresh(folder)?;
    // Without a package.json of its own, npm would install into a folder above.
    fs::write(folder.join("package.json"), "{\"private\":true}\n")?;
    npm.args(["install", "--no-audit", "--no-fund", "--no-update-notifier"])
        .args(packages)
        .current_dir(folder);
    let report = |elapsed: Duration| {
        let size = size_of(folder).map_or_else(|_| "?".to_owned(), megabytes);
        note(&format!("{wanted}: {size} so far, {} s", elapsed.as_secs()));
    };
    shell::run_watched(&mut npm, report).with_context(|| {
        format!("could not install {wanted}; npm needs a package registry that it can reach (`npm config get registry`)")
    })?;
    note(&format!("{wanted}: {}", megabytes(size_of(folder)?)));
    fs::write(folder.join(DONE), wanted)?;
    Ok(())
}

/// The folder of the platform's own package, which has Node's headers.
fn headers(node: &Path) -> anyhow::Result<Option<PathBuf>> {
    #[derive(Deserialize)]
    struct Installed {
        version: String,
    }

    let modules = node.join("node_modules");
    let Ok(entries) = fs::read_dir(&modules) else { return Ok(None) };
    for entry in entries {
        let folder = entry?.path();
        if folder.join("include/node/node.h").is_file() {
            let text = fs::read_to_string(folder.join("package.json"))?;
            let package: Installed = serde_json::from_str(&text)?;
            note(&format!(
                "native modules are compiled with the headers of Node {}",
                package.version
            ));
            return Ok(Some(folder));
        }
    }
    Ok(None)
}
