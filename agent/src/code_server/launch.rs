//! How code-server is started, and how one that was started so is known again.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use zlh_ids::Vmid;

use super::template::Values;
use super::{Listen, Template};
use crate::dev_environment::{RUNTIME_PATH, dev_environment};
use crate::http_get::Endpoint;
use crate::install::Installed;
use crate::layout::{Layout, prepare_socket_folder};
use crate::process::{CONTAINER_VARIABLE, Entry, Process, Tree};
use crate::workload::Workload;

/// Tells code-server and what runs in it from the container's other processes.
const WORKLOAD_MARK: &str = "ZLH_WORKLOAD=code-server";
/// A log that is larger makes room; one older log is kept.
const MAX_LOG_BYTES: u64 = 8 << 20;
/// What is shown of a log line.
const MAX_LINE_CHARS: usize = 300;

/// One exact way to start it.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<(&'static str, OsString)>,
    /// Every code-server of this container is below it.
    installations: PathBuf,
    workspace: PathBuf,
    listen: Listen,
    workload: Workload,
    log: PathBuf,
    mark: String,
}

/// What marks every process of a container, as `NAME=value`.
pub(crate) fn container_mark(vmid: Vmid, root: &Path) -> String {
    format!("{CONTAINER_VARIABLE}={vmid}:{}", root.display())
}

impl Launch {
    pub(crate) fn new(
        vmid: Vmid,
        layout: &Layout,
        (listen, template): (&Listen, &Template),
        workload: Workload,
        user: &str,
        code_server: &Installed,
        runtime: &Installed,
    ) -> Self {
        let (home, workspace) = (layout.home(), layout.workspace());
        let user_data_dir = home.join(".local/share/code-server");
        let arguments = template.expand(&Values {
            listen,
            user_data_dir: &user_data_dir,
            extensions_dir: &user_data_dir.join("extensions"),
            workspace: &workspace,
        });
        let mut environment = dev_environment(layout, user, runtime);
        // Else it writes one with a password into the home folder.
        environment.push(("CODE_SERVER_CONFIG", layout.code_server_config().into_os_string()));
        Self {
            program: code_server.program.clone(),
            arguments,
            environment,
            installations: layout.code_servers(),
            workspace,
            listen: listen.clone(),
            workload,
            log: layout.code_server_log(),
            mark: container_mark(vmid, layout.root()),
        }
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        match &self.listen {
            Listen::Tcp(address) => Endpoint::listening_on(*address),
            Listen::Unix(path) => Endpoint::Unix { path: path.clone(), uid: self.workload.ids.uid },
        }
    }

    /// All of code-server's processes.
    pub(crate) fn tree(&self) -> Tree {
        Tree::marked(vec![self.mark.clone(), WORKLOAD_MARK.to_owned()])
    }

    /// The main process of a code-server that was started exactly so. Where there are several, which takes
    /// a customer who starts more, the oldest is it.
    ///
    /// Command lines tell, not a file with a number: the agent may have been killed before it wrote one.
    pub(super) fn find(&self) -> Option<Process> {
        let alike: Vec<Entry> =
            self.tree().members().into_iter().filter(|entry| self.is_main(entry)).collect();
        let main = alike.into_iter().min_by_key(|entry| entry.started)?;
        let process = Process::open(main.pid).ok()?;
        // The number may have gone to another process before the handle was open.
        (Entry::read(main.pid)? == main).then_some(process)
    }

    /// code-server's main process starts another one with the same arguments, but only the main one leads
    /// the process group it was put in.
    fn is_main(&self, entry: &Entry) -> bool {
        if entry.uid != self.workload.ids.uid || entry.group != entry.pid {
            return false;
        }
        let (arguments, environment) = (entry.arguments(), entry.environment());
        let wanted = self.arguments.iter().map(|argument| argument.to_string_lossy());
        let same_arguments = arguments.len() >= self.arguments.len()
            && wanted.rev().zip(arguments.iter().rev()).all(|(wanted, found)| wanted == *found);
        let installed =
            arguments.iter().any(|argument| Path::new(argument).starts_with(&self.installations));
        // Another runtime takes a new process. Whatever else a newer agent would put there does not: open
        // windows would lose their terminals.
        let same_runtime = self.environment.iter().filter(|(name, _)| *name == RUNTIME_PATH).all(
            |(name, value)| environment.contains(&format!("{name}={}", value.to_string_lossy())),
        );
        same_arguments && installed && same_runtime
    }

    /// Starts it, in a process group of its own and with nothing of the agent's but the log.
    pub(super) fn spawn(&self) -> io::Result<Process> {
        if let Listen::Unix(path) = &self.listen {
            prepare_socket_folder(path.parent().unwrap_or(path), self.workload.ids)?;
        }
        let log = self.open_log()?;
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .envs(
                [self.mark.as_str(), WORKLOAD_MARK].iter().filter_map(|mark| mark.split_once('=')),
            )
            .current_dir(&self.workspace)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .process_group(0);
        if self.workload.switch {
            // With the user id, `Command` also clears the supplementary groups.
            command.uid(self.workload.ids.uid).gid(self.workload.ids.gid);
        }
        let child = command.spawn()?;
        let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
        // A child's number is its own until it is reaped, and only `Process` reaps it.
        Process::open(pid)
    }

    fn open_log(&self) -> io::Result<File> {
        self.shorten_log()?;
        OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log)
    }

    /// Makes room when the log has become large. Whoever writes it appends, and goes on at its new start.
    pub(crate) fn shorten_log(&self) -> io::Result<()> {
        match fs::metadata(&self.log) {
            Ok(metadata) if metadata.len() > MAX_LOG_BYTES => {
                fs::copy(&self.log, self.log.with_extension("log.1"))?;
                OpenOptions::new().write(true).open(&self.log)?.set_len(0)
            }
            _ => Ok(()),
        }
    }

    /// The workload wrote it, so it is shortened and freed from control characters.
    pub(super) fn last_log_line(&self) -> String {
        let read = || -> io::Result<String> {
            let mut file = File::open(&self.log)?;
            let start = file.metadata()?.len().saturating_sub(4096);
            file.seek(SeekFrom::Start(start))?;
            let mut bytes = Vec::new();
            file.take(4096).read_to_end(&mut bytes)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        let text = read().unwrap_or_default();
        let line =
            text.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("its log is empty");
        line.chars().filter(|c| !c.is_control()).take(MAX_LINE_CHARS).collect()
    }
}
