//! Runtimes and code-server, from npm packages.

use std::fs;
use std::path::{Path, PathBuf};

use zlh_agent_protocol::artifact::{CODE_SERVER_ADDON, DEV_CATALOG_PATH, DevCatalog, Package};

use super::{Part, artifact, fresh, npm, pack, prune, remove_others, write_json};
use crate::setup;
use crate::shell::phase;

/// Exact versions, so that the same sources give the same store. code-server wants the Node major
/// version that its package names as its engine.
const CODE_SERVER: &str = "4.139.1";
const NODE: &str = "24.21.0";
/// What customers choose.
pub(super) const NODE_MAJOR: &str = "24";
const NPM: &str = "11.21.2";

/// Starts the bundled Node, whatever Node the container has. A link to it works as well.
const CODE_SERVER_LAUNCHER: &str = r#"#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/../lib/node/bin/node" "$here/../lib/node_modules/code-server/out/node/entry.js" "$@"
"#;

/// What dev containers can have.
pub(super) const PART: Part = Part {
    catalog: DEV_CATALOG_PATH,
    recipe: "1",
    recipe_file: ".recipe",
    lists: |text| {
        let catalog: DevCatalog = serde_json::from_str(text).ok()?;
        let wanted = [catalog.runtime("node", NODE_MAJOR), catalog.addon(CODE_SERVER_ADDON)];
        let paths = [node_path(), addon_path()];
        let known = wanted
            .iter()
            .zip(paths)
            .all(|(artifact, path)| artifact.is_some_and(|artifact| artifact.path == path));
        known.then(|| wanted.into_iter().flatten().cloned().collect())
    },
    make,
};

fn node_path() -> String {
    format!("devcontainer/node-{NODE}.tar.gz")
}

fn addon_path() -> String {
    format!("devcontainer/codeserver-{CODE_SERVER}.tar.gz")
}

fn make(work: &Path, store: &Path) -> anyhow::Result<()> {
    phase(&format!("Packing code-server {CODE_SERVER} and Node {NODE}, from npm"));
    setup::artifact_tools()?;
    let node = npm::install_node(work, NODE, NPM)?;
    let code_server = npm::install_code_server(work, CODE_SERVER, &node)?;
    let runtime = stage_runtime(work, &node)?;
    let addon = stage_code_server(work, &node, &code_server)?;

    fs::create_dir_all(store.join("devcontainer"))?;
    let (node_path, addon_path) = (node_path(), addon_path());
    let packed = pack::pack(&runtime, store, &node_path)?;
    let runtimes = vec![package("node", NODE_MAJOR, packed, "bin/node")];
    let packed = pack::pack(&addon, store, &addon_path)?;
    let addons = vec![package(CODE_SERVER_ADDON, CODE_SERVER, packed, "bin/code-server")];
    remove_others(&store.join("devcontainer"), &[&node_path, &addon_path])?;
    write_json(store, DEV_CATALOG_PATH, &DevCatalog { runtimes, addons })
}

fn package(id: &str, version: &str, packed: pack::Packed, program: &str) -> Package {
    Package { id: id.to_owned(), versions: vec![artifact(version, packed, program)] }
}

/// The runtime as it is unpacked: `bin/node`, and npm where Node's own releases have it.
fn stage_runtime(work: &Path, node: &npm::Node) -> anyhow::Result<PathBuf> {
    let stage = fresh(&work.join("stage/node"))?;
    pack::link_file(&node.program, &stage.join("bin/node"))?;
    pack::link_tree(&node.npm, &stage.join("lib/node_modules/npm"))?;
    for command in ["npm", "npx"] {
        let script = format!("../lib/node_modules/npm/bin/{command}-cli.js");
        std::os::unix::fs::symlink(script, stage.join("bin").join(command))?;
    }
    prune::prune(&stage)?;
    Ok(stage)
}

/// The add-on as it is unpacked: a launcher, and below `lib` code-server with a Node of its own.
fn stage_code_server(work: &Path, node: &npm::Node, code_server: &Path) -> anyhow::Result<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;

    let stage = fresh(&work.join("stage/codeserver"))?;
    pack::link_file(&node.program, &stage.join("lib/node/bin/node"))?;
    pack::link_tree(code_server, &stage.join("lib/node_modules"))?;
    prune::prune(&stage)?;
    let launcher = stage.join("bin/code-server");
    fs::create_dir_all(stage.join("bin"))?;
    fs::write(&launcher, CODE_SERVER_LAUNCHER)?;
    fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755))?;
    Ok(stage)
}
