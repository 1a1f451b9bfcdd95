//! `cargo xtask artifacts`: packs code-server and Node from their npm packages into an artifact store.

mod npm;
mod pack;
mod prune;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use zlh_agent_protocol::artifact::{
    Artifact, CODE_SERVER_ADDON, DEV_CATALOG_PATH, DevCatalog, GAME_CATALOG_PATH, Package,
};
use zlh_agent_protocol::game::GameCatalog;

use crate::setup;
use crate::shell::{megabytes, note, phase};
use crate::workspace::Workspace;

/// The store, in the repository's top folder.
pub(crate) const FOLDER: &str = "artifacts";

/// Exact versions, so that the same sources give the same store. code-server wants the Node major
/// version that its package names as its engine.
const CODE_SERVER: &str = "4.139.1";
const NODE: &str = "24.21.0";
/// What customers choose.
const NODE_MAJOR: &str = "24";
const NPM: &str = "11.21.2";

/// Raised when something else is packed than before, so that stores made earlier are made again.
const RECIPE: &str = "1";
const RECIPE_FILE: &str = ".recipe";

/// Starts the bundled Node, whatever Node the container has. A link to it works as well.
const CODE_SERVER_LAUNCHER: &str = r#"#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/../lib/node/bin/node" "$here/../lib/node_modules/code-server/out/node/entry.js" "$@"
"#;

/// Whether the store is there and whole.
pub(crate) fn are_made(workspace: &Workspace) -> bool {
    is_whole(&workspace.root.join(FOLDER))
}

/// Makes the store, unless it is there and whole.
///
/// # Errors
/// When a tool is missing, npm fails, or a file cannot be written.
pub(crate) fn make(workspace: &Workspace, force: bool) -> anyhow::Result<()> {
    let store = workspace.root.join(FOLDER);
    if !force && is_whole(&store) {
        return Ok(());
    }
    phase(&format!(
        "Making the artifact store: code-server {CODE_SERVER} and Node {NODE}, from npm"
    ));
    setup::artifact_tools()?;

    let work = workspace.target.join("artifacts-work");
    let node = npm::install_node(&work, NODE, NPM)?;
    let code_server = npm::install_code_server(&work, CODE_SERVER, &node)?;

    let runtime = stage_runtime(&work, &node)?;
    let addon = stage_code_server(&work, &node, &code_server)?;

    fs::create_dir_all(store.join("devcontainer"))?;
    let node_path = format!("devcontainer/node-{NODE}.tar.gz");
    let addon_path = format!("devcontainer/codeserver-{CODE_SERVER}.tar.gz");
    let catalog = DevCatalog {
        runtimes: vec![package(
            "node",
            NODE_MAJOR,
            pack::pack(&runtime, &store, &node_path)?,
            "bin/node",
        )],
        addons: vec![package(
            CODE_SERVER_ADDON,
            CODE_SERVER,
            pack::pack(&addon, &store, &addon_path)?,
            "bin/code-server",
        )],
    };
    remove_others(&store.join("devcontainer"), &[&node_path, &addon_path])?;
    write_json(&store, GAME_CATALOG_PATH, &GameCatalog::default())?;
    write_json(&store, DEV_CATALOG_PATH, &catalog)?;
    fs::write(store.join(RECIPE_FILE), RECIPE)?;
    note(&format!("the store is {}", store.display()));
    Ok(())
}

/// Both catalogues are there, and what the dev one lists is on disk, unchanged.
fn is_whole(store: &Path) -> bool {
    let text = |path: &str| fs::read_to_string(store.join(path.trim_start_matches('/'))).ok();
    let Some(catalog) =
        text(DEV_CATALOG_PATH).and_then(|text| serde_json::from_str::<DevCatalog>(&text).ok())
    else {
        return false;
    };
    let games = text(GAME_CATALOG_PATH)
        .is_some_and(|text| serde_json::from_str::<GameCatalog>(&text).is_ok());
    let recipe = text(RECIPE_FILE).is_some_and(|text| text.trim() == RECIPE);
    let wanted = [
        (catalog.runtime("node", NODE_MAJOR), format!("devcontainer/node-{NODE}.tar.gz")),
        (catalog.addon(CODE_SERVER_ADDON), format!("devcontainer/codeserver-{CODE_SERVER}.tar.gz")),
    ];
    games
        && recipe
        && wanted.iter().all(|(artifact, path)| {
            artifact.is_some_and(|artifact| artifact.path == *path && is_unchanged(store, artifact))
        })
}

fn is_unchanged(store: &Path, artifact: &Artifact) -> bool {
    let Ok(mut file) = fs::File::open(store.join(&artifact.path)) else { return false };
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).is_ok() && pack::hex(&hash.finalize()) == artifact.sha256
}

fn package(id: &str, version: &str, packed: pack::Packed, program: &str) -> Package {
    Package {
        id: id.to_owned(),
        versions: vec![Artifact {
            version: version.to_owned(),
            path: packed.path,
            sha256: packed.sha256,
            size_bytes: packed.size_bytes,
            unpacked_bytes: packed.unpacked_bytes,
            program: program.to_owned(),
        }],
    }
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

/// An empty folder of that name.
fn fresh(folder: &Path) -> anyhow::Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("could not remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    Ok(folder.to_owned())
}

/// Removes archives of earlier versions.
fn remove_others(folder: &Path, keep: &[&str]) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let kept = keep.iter().any(|name| path.ends_with(name));
        if !kept && path.extension().is_some_and(|extension| extension == "gz") {
            fs::remove_file(&path)
                .with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn write_json(store: &Path, path: &str, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let file = store.join(path.trim_start_matches('/'));
    let text = serde_json::to_string_pretty(value)? + "\n";
    fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))?;
    note(&format!("wrote {}", file.display()));
    Ok(())
}

/// What `pack` says about an archive's size compared with what is in it.
fn ratio(size: u64, unpacked: u64) -> String {
    format!("{} of files in an archive of {}", megabytes(unpacked), megabytes(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_whole_only_while_its_files_have_their_hashes() {
        let store = tempfile::tempdir().unwrap();
        let content = tempfile::tempdir().unwrap();
        fs::write(content.path().join("file"), "text").unwrap();
        fs::create_dir(store.path().join("devcontainer")).unwrap();
        let node = format!("devcontainer/node-{NODE}.tar.gz");
        let addon = format!("devcontainer/codeserver-{CODE_SERVER}.tar.gz");
        let catalog = DevCatalog {
            runtimes: vec![package(
                "node",
                NODE_MAJOR,
                pack::pack(content.path(), store.path(), &node).unwrap(),
                "bin/node",
            )],
            addons: vec![package(
                CODE_SERVER_ADDON,
                CODE_SERVER,
                pack::pack(content.path(), store.path(), &addon).unwrap(),
                "bin/code-server",
            )],
        };
        write_json(store.path(), DEV_CATALOG_PATH, &catalog).unwrap();
        write_json(store.path(), GAME_CATALOG_PATH, &GameCatalog::default()).unwrap();
        assert!(!is_whole(store.path()), "without the recipe's number");

        fs::write(store.path().join(RECIPE_FILE), RECIPE).unwrap();
        assert!(is_whole(store.path()));

        let mut bytes = fs::read(store.path().join(&node)).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(store.path().join(&node), bytes).unwrap();
        assert!(!is_whole(store.path()), "with one bit of an archive changed");
    }
}
