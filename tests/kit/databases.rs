//! A PostgreSQL cluster and a Redis of the tests' own, from the Debian packages.
//!
//! With `ZLH_TEST_DATABASE=postgres`, systems are started on them: one pair of servers for each test process,
//! one database of either for each system. They end with the process that started them.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_postgres::NoTls;

use crate::config;
use crate::ports::PortSlice;
use crate::stack::folder_in_use;
use crate::wait::eventually;

/// A cluster is ready within a second or two on an idle machine.
const STARTING: Duration = Duration::from_secs(60);
/// Redis has sixteen databases unless told otherwise; a test process starts more systems.
const REDIS_DATABASES: u16 = 4096;
/// The cluster's superuser.
const USER: &str = "zlh";
/// Who runs PostgreSQL where the tests run as root, whom it refuses.
const UNPRIVILEGED: &str = "postgres";

/// The two servers.
#[derive(Debug)]
pub struct Databases {
    /// PostgreSQL.
    pub postgres: Server,
    /// Redis.
    pub redis: Server,
    ports: PortSlice,
    next: AtomicU16,
    /// Below it is all their data; in use for as long as this is.
    folder: TempDir,
    _in_use: File,
}

/// What one system is told.
#[derive(Debug, Clone)]
pub struct Assigned {
    /// URL of its PostgreSQL database.
    pub postgres_url: String,
    /// Where that is, as an entry of `allowed_outbound_hosts`.
    pub postgres_host: String,
    /// URL of its Redis database.
    pub redis_url: String,
}

impl Assigned {
    /// Writes the runtime configuration into a folder.
    #[must_use]
    pub fn runtime_config(&self, folder: &Path) -> PathBuf {
        let path = folder.join("runtime-config.toml");
        let text =
            format!("[key_value_store.agents]\ntype = \"redis\"\nurl = \"{}\"\n", self.redis_url);
        std::fs::write(&path, text).expect("the runtime configuration is written");
        path
    }

    /// Runs a statement as nobody but a test would, and counts the rows that it changed.
    pub async fn execute(&self, sql: &str) -> usize {
        let client = connect(&self.postgres_url).await.expect("PostgreSQL answers");
        let changed = client.execute(sql, &[]).await.expect("a statement");
        usize::try_from(changed).expect("a few rows")
    }
}

impl Assigned {
    /// Acts on components in the audit log, oldest first: action, target, detail.
    pub(crate) async fn component_acts(&self) -> Vec<(String, String, String)> {
        let client = connect(&self.postgres_url).await.expect("PostgreSQL answers");
        let rows = client
            .query(
                "SELECT action, target, detail FROM audit_log WHERE action LIKE 'component.%' \
                 ORDER BY at, ctid",
                &[],
            )
            .await
            .expect("the audit log");
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
    }
}

async fn connect(url: &str) -> Option<tokio_postgres::Client> {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// Databases for one more system, where this run of the tests is on PostgreSQL and Redis.
pub async fn assigned() -> Option<Assigned> {
    static SHARED: OnceCell<Arc<Databases>> = OnceCell::const_new();

    match config::setting("ZLH_TEST_DATABASE") {
        None => None,
        Some(shape) if shape.is_empty() || shape == "sqlite" => None,
        Some(shape) if shape == "postgres" => {
            Some(SHARED.get_or_init(Databases::start).await.assign().await)
        }
        Some(other) => panic!("ZLH_TEST_DATABASE is {other:?}, neither `sqlite` nor `postgres`"),
    }
}

impl Databases {
    /// Starts both and waits until they answer.
    pub async fn start() -> Arc<Self> {
        let (folder, in_use) = folder_in_use("databases");
        let ports = PortSlice::take();
        let [postgres_port, redis_port, ..] = ports.listeners();
        let log = |name| folder.path().join(name);
        let command = postgres(&folder.path().join("postgres"), postgres_port);
        let postgres = Server::new(&command, log("postgres.log"), Signal::QUIT);
        let command = redis(folder.path(), redis_port);
        let redis = Server::new(&command, log("redis.log"), Signal::KILL);
        let databases =
            Self { postgres, redis, ports, next: AtomicU16::new(0), folder, _in_use: in_use };
        databases.postgres.start();
        databases.redis.start();
        databases.ready().await;
        Arc::new(databases)
    }

    /// Waits until both answer.
    pub async fn ready(&self) {
        let [_, redis, ..] = self.ports.listeners();
        eventually(STARTING, async || self.connect().await.is_some(), |ready| *ready).await;
        eventually(
            STARTING,
            async || tokio::net::TcpStream::connect(("127.0.0.1", redis)).await.is_ok(),
            |ready| *ready,
        )
        .await;
    }

    /// A database of either kind that nobody else has.
    pub async fn assign(&self) -> Assigned {
        let [postgres, redis, ..] = self.ports.listeners();
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let client = self.connect().await.expect("PostgreSQL answers");
        client.batch_execute(&format!("CREATE DATABASE zlh_{number}")).await.expect("a database");
        Assigned {
            postgres_url: format!(
                "postgres://{USER}@127.0.0.1:{postgres}/zlh_{number}?sslmode=disable"
            ),
            postgres_host: format!("postgres://127.0.0.1:{postgres}"),
            redis_url: format!("redis://127.0.0.1:{redis}/{}", number % REDIS_DATABASES),
        }
    }

    async fn connect(&self) -> Option<tokio_postgres::Client> {
        let [port, ..] = self.ports.listeners();
        let address = format!("postgres://{USER}@127.0.0.1:{port}/postgres?sslmode=disable");
        connect(&address).await
    }

    /// What the servers logged.
    #[must_use]
    pub fn log(&self) -> String {
        let read =
            |name| std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
        format!("{}{}", read("postgres.log"), read("redis.log"))
    }
}

/// A server that can be stopped and started again.
#[derive(Debug)]
pub struct Server {
    /// Program and arguments.
    command: Vec<OsString>,
    log: PathBuf,
    stop: Signal,
    running: Mutex<Option<(Pid, JoinHandle<()>)>>,
}

impl Server {
    fn new(command: &Command, log: PathBuf, stop: Signal) -> Self {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let command = words.map(ToOwned::to_owned).collect();
        Self { command, log, stop, running: Mutex::new(None) }
    }

    /// Starts it; it must not be running.
    pub fn start(&self) {
        let log = File::options().create(true).append(true).open(&self.log).expect("a log file");
        let mut command = Command::new(&self.command[0]);
        command
            .args(&self.command[1..])
            .stdin(Stdio::null())
            .stderr(log.try_clone().expect("a log"));
        command.stdout(log);
        // The kernel ends the server with the thread that started it, so that is one that only waits.
        let (pid_sender, pid) = std::sync::mpsc::channel();
        let waiter = std::thread::spawn(move || {
            let mut child = command.spawn().expect("the server starts");
            pid_sender.send(Pid::from_child(&child)).ok();
            child.wait().ok();
        });
        let pid = pid.recv().expect("the server starts");
        *self.running.lock().expect("not poisoned") = Some((pid, waiter));
    }

    /// Ends it at once, as a crash would.
    pub fn stop(&self) {
        if let Some((pid, waiter)) = self.running.lock().expect("not poisoned").take() {
            kill_process(pid, self.stop).ok();
            waiter.join().ok();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

fn redis(folder: &Path, port: u16) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "SIGKILL", "redis-server", "--bind", "127.0.0.1", "--port"]);
    command.args([&port.to_string(), "--databases", &REDIS_DATABASES.to_string()]);
    command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(folder);
    command
}

fn postgres(data: &Path, port: u16) -> Command {
    std::fs::create_dir(data).expect("a folder for the cluster");
    if rustix::process::geteuid().is_root() {
        let (user, group) = unprivileged();
        chown(data, Some(user), Some(group)).expect("the cluster's folder has its owner");
    }
    let status = as_unprivileged("initdb", "SIGKILL")
        .args(["--auth", "trust", "--username", USER, "--encoding", "UTF8", "--locale", "C"])
        .args(["--no-sync", "--pgdata"])
        .arg(data)
        .stdout(Stdio::null())
        .status()
        .expect("initdb starts");
    assert!(status.success(), "initdb: {status}");

    let mut command = as_unprivileged("postgres", "SIGQUIT");
    command.arg("-D").arg(data).args(["-p", &port.to_string()]);
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=500",
        "log_connections=on",
        // A test's data need not survive the machine.
        "fsync=off",
    ] {
        command.args(["-c", setting]);
    }
    command
}

/// A program of PostgreSQL, for the user that may run it; ended with what started it.
fn as_unprivileged(program: &str, on_death: &str) -> Command {
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--reuid", UNPRIVILEGED, "--regid", UNPRIVILEGED, "--clear-groups"]);
    }
    command.args(["--pdeathsig", on_death]).arg(installed(program));
    command
}

/// Debian keeps the servers' programs away from PATH, in a folder for each version.
fn installed(program: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|version| version.path().join("bin").join(program))
        .filter(|path| path.is_file())
        .collect();
    found.sort();
    found.pop().unwrap_or_else(|| program.into())
}

/// Numbers of the unprivileged user and its group.
fn unprivileged() -> (u32, u32) {
    let users = std::fs::read_to_string("/etc/passwd").expect("the list of users");
    let line = users.lines().find(|line| line.starts_with(&format!("{UNPRIVILEGED}:")));
    let mut fields = line.expect("PostgreSQL's user, which its package makes").split(':').skip(2);
    let mut number = || fields.next().and_then(|text| text.parse().ok()).expect("a number");
    (number(), number())
}
