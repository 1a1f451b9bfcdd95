//! The catalogue of games: everything that is special about a game is data here, and there is no code for it.
//!
//! Texts in commands, environments and files may have placeholders: `{port}` (the first port), `{port1}`,
//! `{port2}` … (the second, third …), `{memory_mb}`, `{heap_mb}` (what a managed heap may take of it),
//! `{world}`, `{vmid}`, `{admin_user}`, `{admin_pass}`, `{artifact}` and `{runtime}` (folders of what is
//! installed) and `{server}` (the folder that holds the server's own files, which is also where it runs).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::artifact::Artifact;
use crate::config::CrashClass;

/// `_catalog.json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GameCatalog {
    /// Games that servers can run.
    pub games: Vec<Game>,
}

/// A game.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Game {
    /// Its name: lower-case letters, digits and `-`.
    pub id: String,
    /// Its flavours; most have one, `vanilla`.
    pub variants: Vec<Variant>,
}

/// A flavour of a game.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variant {
    /// Its name: lower-case letters, digits and `-`.
    pub id: String,
    /// Newest first.
    pub versions: Vec<GameVersion>,
}

/// One version: what is installed, and how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GameVersion {
    /// What is unpacked; read-only to the server.
    pub artifact: Artifact,
    /// A runtime of `devcontainer/_catalog.json` that it needs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeVersion>,
    /// How it is run.
    pub server: ServerSpec,
}

/// A runtime, exactly as the catalogue lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeVersion {
    /// Such as `java`.
    pub id: String,
    /// Such as `21`.
    pub version: String,
}

/// How a server is run, watched, stopped and saved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ServerSpec {
    /// Program and arguments.
    pub command: Vec<Word>,
    /// Besides `HOME` (the server's folder), `PATH`, `USER`, `LANG` and `TERM`.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Files of the server that are written before it starts.
    #[serde(default)]
    pub files: Vec<SeedFile>,
    /// What it listens on; a server is given as many ports, in this order.
    pub ports: Vec<GamePort>,
    /// Least memory it needs, in MiB.
    pub min_memory_mb: u32,
    /// When it can be played on.
    pub readiness: Readiness,
    /// Seconds after which a start that has not become ready has failed.
    pub start_seconds: u32,
    /// How it is ended.
    pub stop: Stop,
    /// How its world is made consistent on disk while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub save: Option<Save>,
    /// How it says who plays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub players: Option<Players>,
    /// What its output tells about a crash, before the rules that hold for all games.
    #[serde(default)]
    pub crash_hints: Vec<CrashHint>,
    /// What customers may do with its files.
    #[serde(default)]
    pub access: FileAccess,
}

/// A part of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Word {
    /// One argument.
    Plain(String),
    /// Arguments that are there if a file of the server is.
    IfExists(IfExists),
}

/// Arguments that are there if a file of the server is, such as those which load a saved world.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct IfExists {
    /// The file, relative to the server's folder.
    pub if_exists: String,
    /// The arguments.
    pub words: Vec<String>,
}

/// A file that is written for the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeedFile {
    /// Relative to the server's folder.
    pub path: String,
    /// What is in it.
    pub text: String,
}

/// A port that a server listens on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GamePort {
    /// What it is for, such as `game` or `query`.
    pub name: String,
    /// How it is spoken to.
    pub protocol: Protocol,
    /// What the game uses unless told otherwise.
    pub default: u16,
}

/// How a port is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP alone.
    Tcp,
    /// UDP alone.
    Udp,
    /// TCP and UDP on one number.
    Both,
}

/// When a server can be played on. Its [`source`](Self::source) is what `readySource` says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "lowercase")]
pub enum Readiness {
    /// Once its output had a line with one of these texts in it, and for as long as it runs.
    Log {
        /// The texts; they are no patterns.
        contains: Vec<String>,
    },
    /// While one of its ports takes TCP connections.
    Tcp {
        /// Index into the ports.
        #[serde(default)]
        port: usize,
    },
    /// While one of its ports answers a Minecraft status ping.
    Minecraft {
        /// Index into the ports.
        #[serde(default)]
        port: usize,
    },
}

impl Readiness {
    /// What is checked.
    #[must_use]
    pub fn source(&self) -> &'static str {
        match self {
            Self::Log { .. } => "log-pattern",
            Self::Tcp { .. } => "tcp-connect",
            Self::Minecraft { .. } => "minecraft-ping",
        }
    }
}

/// How a server is ended: its own commands, then a signal, then SIGKILL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct Stop {
    /// Lines for its console; none where it has no such command.
    pub commands: Vec<String>,
    /// Seconds it may take after them.
    pub command_seconds: u32,
    /// What it is sent then.
    pub signal: StopSignal,
    /// Seconds it may take after that.
    pub signal_seconds: u32,
}

impl Default for Stop {
    fn default() -> Self {
        Self {
            commands: Vec::new(),
            command_seconds: 30,
            signal: StopSignal::Term,
            signal_seconds: 10,
        }
    }
}

/// A signal that asks a server to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum StopSignal {
    /// What most programs end well on.
    #[serde(rename = "SIGTERM")]
    Term,
    /// What ctrl-c sends.
    #[serde(rename = "SIGINT")]
    Int,
}

/// How a world is made consistent on disk while its server runs: hold, save, copy, release. A server without
/// `hold` is saved and then copied as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Save {
    /// Ends the server's own writing, such as `save-off`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<ConsoleStep>,
    /// Writes everything, such as `save-all flush`.
    pub save: ConsoleStep,
    /// Undoes `hold`, such as `save-on`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<ConsoleStep>,
}

/// A line for the console, and how it is known to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConsoleStep {
    /// The line.
    pub line: String,
    /// A text that the output has in it once it is done; without one, it is done once it is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub done: Option<String>,
    /// Seconds after which it has failed.
    pub seconds: u32,
}

/// How a server says who plays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "lowercase")]
pub enum Players {
    /// In its answer to a Minecraft status ping.
    Minecraft {
        /// Index into the ports.
        #[serde(default)]
        port: usize,
    },
}

/// A text in a server's last output that tells why it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CrashHint {
    /// The text; it is no pattern, and case counts.
    pub contains: String,
    /// What it tells.
    pub class: CrashClass,
}

/// What customers may do with a server's files. Reading and listing is allowed but for what is hidden.
///
/// The lists hold globs relative to the server's folder: `*` stands for anything but `/`, `{a,b}` for one of
/// several.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FileAccess {
    /// Files that may be written, such as `config/*.{toml,json,properties}`.
    pub write: Vec<String>,
    /// Files that may be uploaded, such as `mods/*.jar`.
    pub upload: Vec<String>,
    /// Files that may be deleted, such as `logs/*.log`.
    pub delete: Vec<String>,
    /// Files and folders that are not there as far as customers can tell.
    pub hidden: Vec<String>,
}

impl GameCatalog {
    /// One version of a variant of a game.
    #[must_use]
    pub fn version(&self, game: &str, variant: &str, version: &str) -> Option<&GameVersion> {
        let game = self.games.iter().find(|known| known.id == game)?;
        let variant = game.variants.iter().find(|known| known.id == variant)?;
        variant.versions.iter().find(|known| known.artifact.version == version)
    }

    /// Everything that is listed.
    pub fn artifacts(&self) -> impl Iterator<Item = &Artifact> {
        let variants = self.games.iter().flat_map(|game| &game.variants);
        variants.flat_map(|variant| &variant.versions).map(|version| &version.artifact)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CATALOG: &str = r#"{"games":[{"id":"openttd","variants":[{"id":"vanilla","versions":[{
        "artifact":{"version":"13.0","path":"games/openttd-13.0.tar.gz","sha256":"00","sizeBytes":3,
            "unpackedBytes":9,"program":"bin/openttd"},
        "server":{
            "command":["{artifact}/bin/openttd","-D","0.0.0.0:{port}","-x","-c","{server}/openttd.cfg",
                {"ifExists":"save/{world}.sav","words":["-g","save/{world}.sav"]}],
            "environment":{"XDG_DATA_HOME":"{server}"},
            "ports":[{"name":"game","protocol":"both","default":3979}],
            "minMemoryMb":128,
            "readiness":{"kind":"log","contains":["starting game"]},
            "startSeconds":60,
            "stop":{"commands":["save {world}","quit"],"commandSeconds":20},
            "save":{"save":{"line":"save {world}","done":"Map successfully saved","seconds":30}}
        }}]}]}]}"#;

    #[test]
    fn a_game_is_data() {
        let catalog: GameCatalog = serde_json::from_str(CATALOG).unwrap();

        let version = catalog.version("openttd", "vanilla", "13.0").unwrap();
        let server = &version.server;
        assert_eq!(server.command.len(), 7);
        assert!(matches!(server.command.last(), Some(Word::IfExists(_))));
        assert_eq!(server.readiness.source(), "log-pattern");
        assert_eq!((server.stop.command_seconds, server.stop.signal_seconds), (20, 10));
        assert_eq!(server.stop.signal, StopSignal::Term);
        assert_eq!(catalog.version("openttd", "vanilla", "13"), None);
        assert_eq!(catalog.artifacts().count(), 1);
        let again = serde_json::to_string(&catalog).unwrap();
        assert_eq!(serde_json::from_str::<GameCatalog>(&again).unwrap(), catalog);
    }

    #[test]
    fn a_mistake_in_the_catalogue_is_no_default() {
        for (from, to) in [
            (r#""commandSeconds""#, r#""commandSecond""#),
            (r#""kind":"log""#, r#""kind":"logs""#),
            (r#""ifExists""#, r#""ifExist""#),
            (r#""done""#, r#""don""#),
        ] {
            let wrong = CATALOG.replacen(from, to, 1);
            assert!(serde_json::from_str::<GameCatalog>(&wrong).is_err(), "{to}");
        }
    }
}
