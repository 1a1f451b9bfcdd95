//! Processes of this machine, read from `/proc`.

use std::fmt;
use std::fs;
use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// A running process.
#[derive(Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number.
    pub pid: i32,
    /// Its parent's number.
    pub parent: i32,
    /// Its command line, with spaces between the words.
    pub command: String,
    environment: String,
    folder: String,
}

impl Process {
    /// Ends it at once.
    pub fn kill(&self) {
        kill(self.pid);
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let command: String = self.command.chars().take(160).collect();
        write!(f, "{} (of {}): {command}", self.pid, self.parent)
    }
}

/// Their numbers.
#[must_use]
pub fn pids(processes: &[Process]) -> Vec<i32> {
    processes.iter().map(|process| process.pid).collect()
}

/// Sends SIGKILL to one process, which may be gone already.
pub fn kill(pid: i32) {
    kill_process(Pid::from_raw(pid).expect("a process number"), Signal::KILL).ok();
}

/// Every process that mentions the folder in its command line, environment or working folder, and
/// everything that descends from one.
#[must_use]
pub fn of_folder(folder: &Path) -> Vec<Process> {
    let mention = folder.to_string_lossy();
    let all = all();
    let mut found: Vec<Process> = all
        .iter()
        .filter(|process| {
            [&process.command, &process.environment, &process.folder]
                .iter()
                .any(|text| text.contains(&*mention))
        })
        .cloned()
        .collect();
    let mut checked = 0;
    while let Some(parent) = found.get(checked).map(|process| process.pid) {
        checked += 1;
        for child in all.iter().filter(|process| process.parent == parent) {
            if !found.contains(child) {
                found.push(child.clone());
            }
        }
    }
    found
}

/// The agents among them.
#[must_use]
pub fn agents(folder: &Path) -> Vec<Process> {
    programs(folder, |program| program.ends_with("/zlh-agent") || program == "zlh-agent")
}

/// The programs among them whose name ends so.
#[must_use]
pub fn named(folder: &Path, name: &str) -> Vec<Process> {
    programs(folder, |program| program.ends_with(name))
}

/// The main processes of code-server among them: each has one child that does the work.
#[must_use]
pub fn code_servers(folder: &Path) -> Vec<Process> {
    let all = of_folder(folder);
    let is_one = |process: &Process| process.command.contains("code-server/out/node/entry.js");
    // A wrapper such as a sandbox has the same words in its command line; the program itself is Node.
    let is_node = |process: &Process| {
        process.command.split(' ').next().is_some_and(|word| word.ends_with("node"))
    };
    all.iter()
        .filter(|process| is_one(process) && is_node(process))
        .filter(|process| {
            !all.iter()
                .any(|parent| parent.pid == process.parent && is_one(parent) && is_node(parent))
        })
        .cloned()
        .collect()
}

fn programs(folder: &Path, is: impl Fn(&str) -> bool) -> Vec<Process> {
    of_folder(folder)
        .into_iter()
        .filter(|process| process.command.split(' ').next().is_some_and(&is))
        .collect()
}

fn all() -> Vec<Process> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| read(entry.ok()?.file_name().to_str()?.parse().ok()?)).collect()
}

/// A process may end while it is read.
fn read(pid: i32) -> Option<Process> {
    let folder = Path::new("/proc").join(pid.to_string());
    let words = |file: &str| {
        let bytes = fs::read(folder.join(file)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').replace('\0', " ")
    };
    // The second field is the name in parentheses, which may itself contain any character.
    let stat = fs::read_to_string(folder.join("stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let (state, parent) = (fields.next()?, fields.next()?.parse().ok()?);
    if state == "Z" {
        return None;
    }
    let working =
        fs::read_link(folder.join("cwd")).unwrap_or_default().to_string_lossy().into_owned();
    Some(Process {
        pid,
        parent,
        command: words("cmdline"),
        environment: words("environ"),
        folder: working,
    })
}
