//! How a game server is started: its catalogue entry with the values of this container filled in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zlh_agent_protocol::config::GameConfig;
use zlh_agent_protocol::game::{GameVersion, Word};

use crate::code_server::container_mark;
use crate::holder::wire::Order;
use crate::install::Installed;
use crate::layout::Layout;
use crate::process::Tree;
use crate::workload::Workload;

/// Tells the server and what runs in it from the container's other processes.
const WORKLOAD_MARK: (&str, &str) = ("ZLH_WORKLOAD", "game");
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games";
/// What a managed heap may take of the memory: the rest is for code, stacks and buffers.
const HEAP_PERCENT: u32 = 75;

/// An entry of the catalogue, or a configuration, that cannot be.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SpecError {
    #[error("the catalogue's entry has `{0}`, which stands for nothing")]
    Placeholder(String),
    #[error("the catalogue's entry has no command")]
    NoCommand,
    #[error("the catalogue's entry names port {0}, and the server has {1}")]
    NoSuchPort(usize, usize),
    #[error("the catalogue's entry has the path `{0}`, which leads out of the server's folder")]
    Path(String),
    #[error("the server needs {needed} ports, and {given} were given")]
    Ports { needed: usize, given: usize },
    #[error("the server needs {needed} MiB of memory, and {given} were given")]
    Memory { needed: u32, given: u32 },
}

/// All that is needed to start it.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) config: GameConfig,
    pub(crate) version: GameVersion,
    pub(crate) workload: Workload,
    user: String,
    /// The server's own files.
    pub(crate) folder: PathBuf,
    state: PathBuf,
    values: BTreeMap<String, String>,
    runtime: Option<PathBuf>,
    mark: String,
}

impl Launch {
    /// # Errors
    ///
    /// The entry and the configuration do not go together.
    pub(crate) fn new(
        config: GameConfig,
        version: GameVersion,
        layout: &Layout,
        (workload, user): (Workload, &str),
        artifact: &Installed,
        runtime: Option<&Installed>,
    ) -> Result<Self, SpecError> {
        let server = &version.server;
        if server.ports.len() != config.ports.len() {
            let (needed, given) = (server.ports.len(), config.ports.len());
            return Err(SpecError::Ports { needed, given });
        }
        if config.memory_mb < server.min_memory_mb {
            let (needed, given) = (server.min_memory_mb, config.memory_mb);
            return Err(SpecError::Memory { needed, given });
        }
        let folder = layout.server();
        let mut values = BTreeMap::from([
            ("artifact".to_owned(), artifact.folder.display().to_string()),
            ("server".to_owned(), folder.display().to_string()),
            ("world".to_owned(), config.world.clone()),
            ("vmid".to_owned(), config.vmid.to_string()),
            ("memory_mb".to_owned(), config.memory_mb.to_string()),
            ("heap_mb".to_owned(), (config.memory_mb / 100 * HEAP_PERCENT).max(64).to_string()),
            ("admin_user".to_owned(), config.admin_user.clone().unwrap_or_default()),
            (
                "admin_pass".to_owned(),
                config.admin_pass.as_ref().map(|pass| pass.0.clone()).unwrap_or_default(),
            ),
        ]);
        for (index, port) in config.ports.iter().enumerate() {
            let name = if index == 0 { "port".to_owned() } else { format!("port{index}") };
            values.insert(name, port.to_string());
        }
        if let Some(runtime) = runtime {
            values.insert("runtime".to_owned(), runtime.folder.display().to_string());
        }
        let launch = Self {
            mark: container_mark(config.vmid, layout.root()),
            state: layout.state(),
            runtime: runtime.and_then(|runtime| runtime.program.parent()).map(Path::to_owned),
            user: user.to_owned(),
            folder,
            values,
            config,
            version,
            workload,
        };
        launch.files()?;
        // Also what is not there now, such as a world to load.
        launch.order(1, 0, |_| true)?;
        Ok(launch)
    }

    /// The port that a catalogue entry means.
    pub(crate) fn port(&self, index: usize) -> Result<u16, SpecError> {
        let ports = &self.config.ports;
        ports.get(index).copied().ok_or(SpecError::NoSuchPort(index, ports.len()))
    }

    /// Lines that end the server.
    pub(crate) fn stop_commands(&self) -> Result<Vec<String>, SpecError> {
        self.version.server.stop.commands.iter().map(|line| self.fill(line)).collect()
    }

    /// Files that are written if they are not there: paths below the server's folder, and texts.
    pub(crate) fn files(&self) -> Result<Vec<(PathBuf, String)>, SpecError> {
        let files = &self.version.server.files;
        files
            .iter()
            .map(|file| Ok((relative(&self.fill(&file.path)?)?, self.fill(&file.text)?)))
            .collect()
    }

    /// Everything that came of any of its runs.
    pub(crate) fn tree(&self) -> Tree {
        let (name, value) = WORKLOAD_MARK;
        Tree::marked(vec![self.mark.clone(), format!("{name}={value}")])
    }

    /// The order for one run; `exists` tells of files in the server's folder.
    pub(crate) fn order(
        &self,
        run: u64,
        begin: u64,
        exists: impl Fn(&Path) -> bool,
    ) -> Result<Order, SpecError> {
        let mut words = Vec::new();
        for word in &self.version.server.command {
            match word {
                Word::Plain(word) => words.push(self.fill(word)?),
                Word::IfExists(more) => {
                    let file = relative(&self.fill(&more.if_exists)?)?;
                    let filled: Result<Vec<_>, _> =
                        more.words.iter().map(|word| self.fill(word)).collect();
                    if exists(&self.folder.join(file)) {
                        words.extend(filled?);
                    }
                }
            }
        }
        let mut words = words.into_iter();
        let program = words.next().ok_or(SpecError::NoCommand)?.into();
        Ok(Order {
            run,
            program,
            arguments: words.collect(),
            environment: self.environment()?,
            folder: self.folder.clone(),
            ids: self.workload.switch.then_some(self.workload.ids),
            begin,
            state: self.state.clone(),
        })
    }

    fn environment(&self) -> Result<BTreeMap<String, String>, SpecError> {
        let mut path = SYSTEM_PATH.to_owned();
        if let Some(runtime) = &self.runtime {
            path = format!("{}:{path}", runtime.display());
        }
        let fixed = [
            ("HOME", self.folder.display().to_string()),
            ("USER", self.user.clone()),
            ("LOGNAME", self.user.clone()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TERM", "xterm-256color".to_owned()),
            ("PATH", path),
        ];
        let mut environment: BTreeMap<String, String> =
            fixed.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        for (name, value) in &self.version.server.environment {
            environment.insert(name.clone(), self.fill(value)?);
        }
        // Last: no catalogue entry can take a server out of its container's sight.
        for (name, value) in self.mark.split_once('=').into_iter().chain([WORKLOAD_MARK]) {
            environment.insert(name.to_owned(), value.to_owned());
        }
        Ok(environment)
    }

    /// Puts values in the place of `{names}`. Braces around anything else are as they are: files are often
    /// JSON.
    fn fill(&self, text: &str) -> Result<String, SpecError> {
        let mut filled = String::with_capacity(text.len());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            let name = after.split_once('}').map(|(name, _)| name).filter(|name| is_name(name));
            match name {
                None => {
                    filled.push('{');
                    rest = after;
                }
                Some(name) => {
                    let value = self
                        .values
                        .get(name)
                        .ok_or_else(|| SpecError::Placeholder(format!("{{{name}}}")))?;
                    filled.push_str(value);
                    rest = after.get(name.len() + 1..).unwrap_or_default();
                }
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

fn relative(path: &str) -> Result<PathBuf, SpecError> {
    let path = PathBuf::from(path);
    if crate::install::is_plain_relative(&path) {
        Ok(path)
    } else {
        Err(SpecError::Path(path.display().to_string()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Ids;

    fn launch(change: impl Fn(&mut serde_json::Value)) -> Result<Launch, SpecError> {
        let mut both = json!({
            "config": {"vmid": 5001, "game": "g", "variant": "vanilla", "version": "1", "world": "eden",
                "ports": [50000, 50001], "memory_mb": 1000, "artifact_base_url": "http://store"},
            "version": {
                "artifact": {"version": "1", "path": "g", "sha256": "00", "sizeBytes": 1,
                    "unpackedBytes": 1, "program": "g"},
                "server": {
                    "command": ["{artifact}/g", "-p={port}:{port1}", "{heap_mb}", "{not a name}",
                        {"ifExists": "{world}.sav", "words": ["-g", "{world}.sav"]}],
                    "files": [{"path": "a/b.json", "text": "{\"port\": {port}}"}],
                    "ports": [{"name": "game", "protocol": "tcp", "default": 1},
                        {"name": "query", "protocol": "udp", "default": 2}],
                    "minMemoryMb": 100, "readiness": {"kind": "tcp"}, "startSeconds": 1, "stop": {}}}
        });
        change(&mut both);
        let installed = Installed { folder: "/opt/g".into(), program: "/opt/g/g".into() };
        let workload = Workload { ids: Ids { uid: 7, gid: 7 }, switch: true };
        Launch::new(
            serde_json::from_value(both["config"].take()).unwrap(),
            serde_json::from_value(both["version"].take()).unwrap(),
            &Layout::new("/srv/c".into()),
            (workload, "dev"),
            &installed,
            None,
        )
    }

    #[test]
    fn placeholders_are_filled_in() {
        let launch = launch(|_| {}).unwrap();

        let order = launch.order(1, 0, |_| false).unwrap();
        assert_eq!(order.program, Path::new("/opt/g/g"));
        assert_eq!(order.arguments, ["-p=50000:50001", "750", "{not a name}"]);
        assert_eq!(order.environment.get("ZLH_CONTAINER").unwrap(), "5001:/srv/c");
        let loads = launch.order(1, 0, |file| file == launch.folder.join("eden.sav")).unwrap();
        assert_eq!(loads.arguments[3..], ["-g", "eden.sav"]);
        let files = launch.files().unwrap();
        assert_eq!(files, [(PathBuf::from("a/b.json"), "{\"port\": 50000}".to_owned())]);
    }

    #[test]
    fn what_cannot_be_is_said_before_anything_is_started() {
        let table: [(&str, serde_json::Value, SpecError); 6] = [
            ("/config/ports", json!([1]), SpecError::Ports { needed: 2, given: 1 }),
            ("/config/memory_mb", json!(99), SpecError::Memory { needed: 100, given: 99 }),
            ("/version/server/command", json!([]), SpecError::NoCommand),
            (
                "/version/server/command",
                json!(["{runtime}/bin/java"]),
                SpecError::Placeholder("{runtime}".to_owned()),
            ),
            ("/version/server/files/0/path", json!("../x"), SpecError::Path("../x".to_owned())),
            (
                "/version/server/command",
                json!(["g", {"ifExists": "/etc/passwd", "words": []}]),
                SpecError::Path("/etc/passwd".to_owned()),
            ),
        ];
        for (path, value, error) in table {
            let wrong = launch(|both| *both.pointer_mut(path).unwrap() = value.clone());
            assert_eq!(wrong.unwrap_err(), error, "{path}");
        }
    }
}
