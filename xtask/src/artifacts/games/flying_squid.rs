//! flying-squid, a server that speaks Minecraft's protocol, from npm.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use zlh_agent_protocol::game::{
    FileAccess, Game, GamePort, Players, Protocol, Readiness, RuntimeVersion, ServerSpec, Stop,
};

use super::{FOLDER, plain, texts, vanilla};
use crate::artifacts::{artifact, dev, fresh, npm, pack};

const VERSION: &str = "1.12.0";
/// Data of the one version of the game that it is started with, where they lie with those of all others.
const DATA: &str = "minecraft-data/minecraft-data/data";
const DATA_KEPT: &[&str] =
    &["pc/common", "pc/1.13.2", "pc/1.16", "pc/1.16.1", "pc/1.16.2", "bedrock/common"];
const SERVER: &str = include_str!("flying_squid.js");

pub(super) fn make(work: &Path, store: &Path) -> anyhow::Result<Game> {
    let modules = npm::install_package(work, "flying-squid", VERSION)?;

    let stage = fresh(&work.join("stage/flying-squid"))?;
    pack::link_tree(&modules, &stage.join("node_modules"))?;
    keep_data(&stage.join("node_modules").join(DATA))?;
    fs::write(stage.join("server.js"), SERVER).context("could not write the server's script")?;

    let packed = pack::pack(&stage, store, &format!("{FOLDER}/flying-squid-{VERSION}.tar.gz"))?;
    let mut game = vanilla("flying-squid", artifact(VERSION, packed, "server.js"), server());
    let runtime = RuntimeVersion { id: "node".to_owned(), version: dev::NODE_MAJOR.to_owned() };
    for version in game.variants.iter_mut().flat_map(|variant| &mut variant.versions) {
        version.runtime = Some(runtime.clone());
    }
    Ok(game)
}

/// Removes the data of other versions: six sevenths of everything.
fn keep_data(data: &Path) -> anyhow::Result<()> {
    for edition in ["pc", "bedrock"] {
        for entry in fs::read_dir(data.join(edition)).context("the data are elsewhere")? {
            let path = entry?.path();
            if path.is_dir() && !DATA_KEPT.iter().any(|kept| path == data.join(kept)) {
                fs::remove_dir_all(&path)?;
            }
        }
    }
    Ok(())
}

fn server() -> ServerSpec {
    let command = ["{runtime}/bin/node", "{artifact}/server.js", "{port}", "{world}"];
    ServerSpec {
        command: command.map(plain).into(),
        environment: texts([]),
        files: Vec::new(),
        ports: vec![GamePort { name: "game".to_owned(), protocol: Protocol::Tcp, default: 25_565 }],
        min_memory_mb: 512,
        readiness: Readiness::Minecraft { port: 0 },
        start_seconds: 120,
        stop: Stop { commands: vec!["stop".to_owned()], ..Stop::default() },
        save: None,
        players: Some(Players::Minecraft { port: 0 }),
        crash_hints: Vec::new(),
        access: FileAccess { delete: vec!["logs/*.log".to_owned()], ..FileAccess::default() },
    }
}
