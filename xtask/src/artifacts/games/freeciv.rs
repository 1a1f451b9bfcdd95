//! Freeciv's server, which refuses to run as root.

use std::path::Path;

use zlh_agent_protocol::game::{
    ConsoleStep, FileAccess, Game, GamePort, IfExists, Protocol, Readiness, Save, ServerSpec, Stop,
    Word,
};

use super::{FOLDER, plain, texts, vanilla};
use crate::artifacts::{artifact, debian, fresh, pack};

pub(super) fn make(work: &Path, store: &Path) -> anyhow::Result<Game> {
    let packages = debian::unpack(&work.join("freeciv"), &["freeciv-server"])?;
    let version = packages.upstream_version("freeciv-server")?.to_owned();

    let stage = fresh(&work.join("stage/freeciv"))?;
    pack::link_tree(&packages.root.join("usr/share/games/freeciv"), &stage.join("data"))?;
    let program = packages.root.join("usr/games/freeciv-server");
    pack::link_file(&program, &stage.join("bin/freeciv-server"))?;
    packages.link_libraries(&program, &stage.join("lib"))?;
    debian::remove_loose_links(&stage)?;

    let packed = pack::pack(&stage, store, &format!("{FOLDER}/freeciv-{version}.tar.gz"))?;
    Ok(vanilla("freeciv", artifact(&version, packed, "bin/freeciv-server"), server()))
}

fn server() -> ServerSpec {
    let words = ["{artifact}/bin/freeciv-server", "-p", "{port}", "--Announce", "none", "-s"];
    let mut command: Vec<Word> = words.map(plain).into();
    command.push(plain("{server}"));
    command.push(Word::IfExists(IfExists {
        if_exists: "{world}.sav.xz".to_owned(),
        words: vec!["-f".to_owned(), "{server}/{world}".to_owned()],
    }));
    ServerSpec {
        command,
        environment: texts([
            ("LD_LIBRARY_PATH", "{artifact}/lib"),
            ("FREECIV_DATA_PATH", "{artifact}/data"),
        ]),
        files: Vec::new(),
        ports: vec![GamePort { name: "game".to_owned(), protocol: Protocol::Tcp, default: 5556 }],
        min_memory_mb: 256,
        readiness: Readiness::Log {
            contains: vec!["Now accepting new client connections".to_owned()],
        },
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
                done: Some("Game saved as".to_owned()),
                seconds: 30,
            },
            release: None,
        }),
        players: None,
        crash_hints: Vec::new(),
        access: FileAccess {
            upload: vec!["*.sav.xz".to_owned()],
            delete: vec!["*.sav.xz".to_owned()],
            ..FileAccess::default()
        },
    }
}
