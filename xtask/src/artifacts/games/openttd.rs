//! OpenTTD with its free graphics.

use std::fs;
use std::path::Path;

use anyhow::Context as _;
use zlh_agent_protocol::game::{
    ConsoleStep, FileAccess, Game, GamePort, IfExists, Protocol, Readiness, Save, ServerSpec, Stop,
    Word,
};

use super::{FOLDER, plain, texts, vanilla};
use crate::artifacts::{artifact, debian, fresh, pack};

/// Run by the game once its world is there, whether it was made or loaded; its own words differ.
const STARTED: &str = "echo \"The world is up\"\n";

pub(super) fn make(work: &Path, store: &Path) -> anyhow::Result<Game> {
    let packages = debian::unpack(&work.join("openttd"), &["openttd", "openttd-opengfx"])?;
    let version = packages.upstream_version("openttd")?.to_owned();

    let stage = fresh(&work.join("stage/openttd"))?;
    // It looks for its data beside its program.
    let folder = stage.join("openttd");
    pack::link_tree(&packages.root.join("usr/share/games/openttd"), &folder)?;
    let program = packages.root.join("usr/games/openttd");
    pack::link_file(&program, &folder.join("openttd"))?;
    packages.link_libraries(&program, &stage.join("lib"))?;
    fs::write(folder.join("scripts/game_start.scr"), STARTED)
        .context("could not write OpenTTD's script")?;
    debian::remove_loose_links(&stage)?;

    let packed = pack::pack(&stage, store, &format!("{FOLDER}/openttd-{version}.tar.gz"))?;
    Ok(vanilla("openttd", artifact(&version, packed, "openttd/openttd"), server()))
}

fn server() -> ServerSpec {
    let words = ["{artifact}/openttd/openttd", "-D", "0.0.0.0:{port}", "-x", "-c"];
    let mut command: Vec<Word> = words.map(plain).into();
    command.push(plain("{server}/openttd.cfg"));
    command.push(Word::IfExists(IfExists {
        if_exists: "save/{world}.sav".to_owned(),
        words: vec!["-g".to_owned(), "{server}/save/{world}.sav".to_owned()],
    }));
    ServerSpec {
        command,
        environment: texts([
            ("LD_LIBRARY_PATH", "{artifact}/lib"),
            ("XDG_CONFIG_HOME", "{server}"),
            ("XDG_DATA_HOME", "{server}"),
        ]),
        files: Vec::new(),
        ports: vec![GamePort { name: "game".to_owned(), protocol: Protocol::Both, default: 3979 }],
        min_memory_mb: 256,
        readiness: Readiness::Log { contains: vec!["The world is up".to_owned()] },
        start_seconds: 60,
        stop: Stop {
            commands: vec!["save {world}".to_owned(), "quit".to_owned()],
            command_seconds: 20,
            ..Stop::default()
        },
        save: Some(Save {
            hold: None,
            save: ConsoleStep {
                line: "save {world}".to_owned(),
                done: Some("Map successfully saved".to_owned()),
                seconds: 30,
            },
            release: None,
        }),
        players: None,
        crash_hints: Vec::new(),
        access: FileAccess {
            write: vec!["openttd.cfg".to_owned()],
            upload: vec!["save/*.sav".to_owned(), "newgrf/*.{grf,tar}".to_owned()],
            delete: vec!["save/*.sav".to_owned(), "newgrf/*.{grf,tar}".to_owned()],
            hidden: Vec::new(),
        },
    }
}
