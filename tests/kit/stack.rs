//! The whole system, running: `zlh up` with a data folder and ports of its own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::Child;
use zlh_authn::token::{Claims, SigningKeys, TokenKind};

use crate::api::{Api, PASSWORD};
use crate::databases::{self, Assigned, Databases};
use crate::http::{Reply, request, send, websocket};
use crate::ports::{self, PortSlice};
use crate::processes::{self, Process};
use crate::{config, http};

/// A debug build compiles the components on its first start.
const STARTING: Duration = Duration::from_secs(180);
/// What a window asks for first. code-server takes any path, and keeps a socket on which nothing is said
/// alive by itself.
pub const IDE_WEBSOCKET: &str = "/stable-test?reconnectionToken=11111111-1111-4111-8111-111111111111\
    &reconnection=false&skipWebSocketFrames=false";
/// Marks a folder that a test uses; unlocked when the test is killed.
const IN_USE: &str = "in-use";
/// Longest wait for a process that was told to end.
const ENDING: Duration = Duration::from_secs(30);

/// What differs from the usual.
#[derive(Debug, Clone, Default)]
pub struct StackOptions {
    /// Environment variables.
    pub settings: Vec<(&'static str, String)>,
    /// The artifact store in place of the repository's.
    pub artifacts: Option<PathBuf>,
    /// The manifest in place of the repository's.
    pub manifest: Option<PathBuf>,
    /// PostgreSQL and Redis of the test's own, which it may stop; else those of the run, if it has any.
    pub databases: Option<Arc<Databases>>,
    /// Runs the components in a process of their own (`zlh components` and `zlh proxy --api`).
    pub split: bool,
    /// Has the agent gateway on, through which the components then go.
    pub gateway: bool,
}

impl StackOptions {
    /// The same with one more environment variable.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.settings.push((name, value.into()));
        self
    }
}

/// A running system. Dropped, it is stopped with everything that it started, and its data is removed.
#[derive(Debug)]
pub struct Stack {
    options: StackOptions,
    folder: TempDir,
    /// Held for as long as the folder is in use.
    _in_use: File,
    ports: PortSlice,
    /// Two systems of one machine would run containers of the same number as the same user, and each would
    /// kill the other's when it deletes its own. So one at a time has containers.
    containers: Option<File>,
    /// The databases that it was given, once it was started.
    assigned: Option<Assigned>,
    running: Vec<Child>,
    /// What `zlh up --json` said when everything answered.
    pub ready: Value,
}

impl Stack {
    /// Starts one and waits until it is ready.
    pub async fn start() -> Self {
        Self::start_with(StackOptions::default()).await
    }

    /// Starts one that differs from the usual.
    pub async fn start_with(options: StackOptions) -> Self {
        let mut stack = Self::prepare(options);
        stack.containers = Some(ports::machine_lock("containers").await);
        stack.restart().await;
        stack
    }

    /// Starts one that is not asked for containers, beside others that are.
    pub async fn start_without_containers() -> Self {
        let mut stack = Self::prepare(StackOptions::default());
        stack.restart().await;
        stack
    }

    /// The same with the components in a process of their own.
    pub async fn start_apart_without_containers() -> Self {
        let mut stack = Self::prepare(StackOptions { split: true, ..StackOptions::default() });
        stack.restart().await;
        stack
    }

    /// A folder and ports, and nothing running yet.
    #[must_use]
    pub fn prepare(options: StackOptions) -> Self {
        // Short: below it are sockets, whose paths are limited to 107 bytes.
        let (folder, in_use) = folder_in_use("zlh");
        let stack = Self {
            options,
            folder,
            _in_use: in_use,
            ports: PortSlice::take(),
            containers: None,
            assigned: None,
            running: Vec::new(),
            ready: Value::Null,
        };
        config::share_compiled_code(&stack.data().join("state"));
        stack
    }

    /// Another `zlh` on the same databases, with the same keys and a data folder of its own; not started yet.
    /// This one must have been started on databases that can be shared.
    #[must_use]
    pub fn beside(&self) -> Self {
        let mut other = Self::prepare(self.options.clone());
        other.assigned = Some(self.assigned.clone().expect("databases that can be shared"));
        let secrets = other.data().join("secrets");
        std::fs::create_dir_all(&secrets).expect("a folder of secrets");
        for secret in std::fs::read_dir(self.data().join("secrets")).expect("the secrets") {
            let secret = secret.expect("a secret");
            std::fs::copy(secret.path(), secrets.join(secret.file_name())).expect("a copy");
        }
        other
    }

    /// Starts `zlh` on the same folder and ports as before; it must have ended.
    pub async fn restart(&mut self) {
        let Err(status) = self.try_restart().await else { return };
        panic!("zlh ended with {status} before it was ready:\n{}", self.log());
    }

    /// The same, or how it ended instead.
    ///
    /// # Errors
    /// The status of a process that ended before it was ready.
    pub async fn try_restart(&mut self) -> Result<(), ExitStatus> {
        self.assign_databases().await;
        if self.options.split {
            let arguments =
                ["components", "--json", "--listen", &self.components_address().to_string()];
            let mut components = self.command(&arguments);
            components.arg("--admin-listen").arg(self.components_admin().to_string());
            self.launch(components).await?;
            let api = format!("http://{}", self.components_address());
            let proxy = self.proxy_command(&["proxy", "--json", "--api", &api]);
            self.ready = self.launch(proxy).await?;
        } else {
            let up = self.proxy_command(&["up", "--json"]);
            self.ready = self.launch(up).await?;
        }
        Ok(())
    }

    /// Gives it the databases that it will have, which its start does otherwise.
    pub async fn assign_databases(&mut self) {
        if self.assigned.is_none() {
            self.assigned = match &self.options.databases {
                Some(own) => Some(own.assign().await),
                None => databases::assigned().await,
            };
        }
    }

    /// Runs a process until its first line, which says that it is ready.
    async fn launch(&mut self, mut command: tokio::process::Command) -> Result<Value, ExitStatus> {
        let mut child = command.spawn().expect("zlh starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is a pipe")).lines();
        let line = tokio::time::timeout(STARTING, lines.next_line()).await;
        match line {
            Ok(Ok(Some(line))) => {
                // Read on, so that it never waits for us.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                self.running.push(child);
                let ready: Value =
                    serde_json::from_str(&line).unwrap_or_else(|error| panic!("{line}: {error}"));
                assert_eq!(ready["ready"], true, "{ready}");
                Ok(ready)
            }
            Ok(_) => Err(child.wait().await.expect("the status of zlh")),
            Err(_) => {
                child.start_kill().ok();
                panic!("zlh is not ready after {STARTING:?}:\n{}", self.log());
            }
        }
    }

    fn proxy_command(&self, arguments: &[&str]) -> tokio::process::Command {
        let [listen, ide, admin, artifacts, gateway] = self.ports.listeners().map(loopback);
        let mut command = self.command(arguments);
        if self.options.gateway {
            command.arg("--gateway-listen").arg(gateway.to_string());
        }
        for (flag, address) in [
            ("--listen", listen),
            ("--ide-listen", ide),
            ("--admin-listen", admin),
            ("--artifact-listen", artifacts),
        ] {
            command.arg(flag).arg(address.to_string());
        }
        command
            .arg("--artifacts")
            .arg(self.options.artifacts.clone().unwrap_or_else(config::artifacts));
        command
    }

    fn command(&self, arguments: &[&str]) -> tokio::process::Command {
        let log =
            File::options().create(true).append(true).open(self.log_path()).expect("a log file");
        let containers = self.ports.containers();
        let mut command = tokio::process::Command::new(config::zlh());
        command
            .args(arguments)
            .arg("--data-dir")
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .env("ZLH_BOOTSTRAP_EMAIL", "admin@example.com")
            .env("ZLH_BOOTSTRAP_PASSWORD", PASSWORD)
            .env("ZLH_PORT_RANGE", format!("{}-{}", containers.start(), containers.end()))
            .env("ZLH_POLL_INTERVAL_SECONDS", "1");
        if self.options.split {
            // The components cannot know where the other half listens.
            let [public, _, _, artifacts, gateway] = self.ports.listeners();
            if self.options.gateway {
                command.env("ZLH_GATEWAY_URL", format!("http://127.0.0.1:{gateway}"));
            }
            command
                .env("DEV_IDE_HOST_SUFFIX", format!("ide.localhost:{public}"))
                .env("ZLH_ARTIFACT_URL", format!("http://127.0.0.1:{artifacts}"));
        }
        // `zlh proxy` has no components of its own.
        if arguments.first() != Some(&"proxy") {
            command
                .arg("--manifest")
                .arg(self.options.manifest.clone().unwrap_or_else(config::manifest));
        }
        if let Some(assigned) = &self.assigned {
            command
                .env("ZLH_DATABASE_URL", &assigned.postgres_url)
                .env("ZLH_RUNTIME_CONFIG", assigned.runtime_config(self.folder.path()));
        }
        for (name, value) in &self.options.settings {
            command.env(name, value);
        }
        command
    }

    /// The public API.
    #[must_use]
    pub fn api(&self) -> Api {
        Api { address: loopback(self.ports.listeners()[0]) }
    }

    /// The listener of IDEs in tunnel mode.
    #[must_use]
    pub fn ide_listener(&self) -> SocketAddr {
        loopback(self.ports.listeners()[1])
    }

    /// The private listener.
    #[must_use]
    pub fn admin_listener(&self) -> SocketAddr {
        loopback(self.ports.listeners()[2])
    }

    /// Where components listen when they run apart.
    fn components_address(&self) -> SocketAddr {
        loopback(*self.ports.containers().end())
    }

    fn components_admin(&self) -> SocketAddr {
        loopback(*self.ports.containers().end() - 1)
    }

    /// What becomes of `zlh component …` on this one's data folder.
    pub async fn component_command(&self, arguments: &[&str]) -> std::process::Output {
        let child = self.component_child(arguments);
        let output = tokio::time::timeout(STARTING, child.wait_with_output()).await;
        output.expect("zlh component ends").expect("its output")
    }

    /// `zlh component swap`: what it answers, or what it complains of.
    ///
    /// # Errors
    /// With what it wrote to standard error.
    pub async fn swap(&self, component: &str, file: &Path) -> Result<Value, String> {
        let file = file.to_string_lossy();
        let output = self.component_command(&["swap", component, &file, "--json"]).await;
        if output.status.success() {
            Ok(serde_json::from_slice(&output.stdout).expect("JSON"))
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
        }
    }

    /// `zlh component …`, started.
    #[must_use]
    pub fn component_child(&self, arguments: &[&str]) -> Child {
        let mut command = tokio::process::Command::new(config::zlh());
        command.arg("component").args(arguments).arg("--data-dir").arg(self.data());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true).spawn().expect("zlh component starts")
    }

    /// Acts on components in the audit log, oldest first: action, target, detail.
    pub async fn audit_log(&self) -> Vec<(String, String, String)> {
        if let Some(assigned) = &self.assigned {
            return assigned.component_acts().await;
        }
        let path = self.data().join("state/sqlite_db.db");
        let read = move || -> rusqlite::Result<Vec<_>> {
            let database = rusqlite::Connection::open(path)?;
            let mut acts = database.prepare(
                "SELECT action, target, detail FROM audit_log WHERE action LIKE 'component.%' \
                 ORDER BY at, rowid",
            )?;
            acts.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
        };
        tokio::task::spawn_blocking(read).await.expect("no panic").expect("the audit log")
    }

    /// `dev-<vmid>.ide.localhost:<port>`, as a browser sends it.
    #[must_use]
    pub fn ide_host(&self, vmid: u64) -> String {
        format!("dev-{vmid}.ide.localhost:{}", self.api().address.port())
    }

    /// One request to a container's IDE in hosted mode.
    pub async fn ide(&self, vmid: u64, path: &str, headers: &[(&str, &str)]) -> Reply {
        let host = self.ide_host(vmid);
        let mut all = vec![("host", host.as_str())];
        all.extend(headers);
        send(self.api().address, request(::http::Method::GET, path, &all, None))
            .await
            .expect("an answer")
    }

    /// A WebSocket to a container's IDE in hosted mode, from the IDE's own page.
    ///
    /// # Errors
    /// With the answer when it is not opened.
    pub async fn ide_websocket(
        &self,
        vmid: u64,
        headers: &[(&str, &str)],
    ) -> Result<http::Socket, Reply> {
        let host = self.ide_host(vmid);
        let origin = format!("http://{host}");
        let mut all = vec![("host", host.as_str())];
        if !headers.iter().any(|(name, _)| *name == "origin") {
            all.push(("origin", &origin));
        }
        all.extend(headers);
        websocket(self.api().address, IDE_WEBSOCKET, &all).await
    }

    /// Exchanges an IDE token for a cookie, as a browser would, and answers `name=value`.
    pub async fn ide_cookie(&self, vmid: u64, token: &str) -> String {
        let reply = self.ide(vmid, &format!("/?token={token}"), &[]).await.expect(303);
        let cookie = reply.header("set-cookie").expect("a cookie");
        cookie.split(';').next().expect("name and value").to_owned()
    }

    /// A token signed by this system's own key: what only its holder could make.
    #[must_use]
    pub fn sign(&self, claims: &Claims) -> String {
        let path = self.data().join(format!("secrets/key-{}.json", claims.kind.as_str()));
        let text = std::fs::read_to_string(&path).expect("the key of this kind");
        let key: Value = serde_json::from_str(&text).expect("JSON");
        SigningKeys::from_json(&json!([key["signing"]]).to_string())
            .expect("keys")
            .sign(claims)
            .expect("a token")
    }

    /// A token of another kind with the claims of this one, signed with that kind's own key.
    #[must_use]
    pub fn as_kind(&self, token: &str, kind: TokenKind) -> String {
        let mut claims: Claims =
            serde_json::from_value(crate::forge::claims(token)).expect("claims");
        claims.kind = kind;
        claims.aud = format!("zlh:{}", kind.as_str());
        self.sign(&claims)
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("d")
    }

    /// A container's folder on disk.
    #[must_use]
    pub fn container(&self, vmid: u64) -> PathBuf {
        self.data().join("containers").join(vmid.to_string())
    }

    /// What a customer sees as their workspace.
    #[must_use]
    pub fn workspace(&self, vmid: u64) -> PathBuf {
        self.container(vmid).join("root/home/dev/workspace")
    }

    /// Agents of one container.
    #[must_use]
    pub fn agents(&self, vmid: u64) -> Vec<Process> {
        processes::agents(&self.container(vmid))
    }

    /// OpenTTD servers of one container.
    #[must_use]
    pub fn games(&self, vmid: u64) -> Vec<Process> {
        processes::named(&self.container(vmid), "/openttd")
    }

    /// Main processes of one container's code-server.
    #[must_use]
    pub fn code_servers(&self, vmid: u64) -> Vec<Process> {
        processes::code_servers(&self.container(vmid))
    }

    /// Everything that runs for one container.
    #[must_use]
    pub fn processes(&self, vmid: u64) -> Vec<Process> {
        processes::of_folder(&self.container(vmid))
    }

    /// Ends `zlh` as a power failure would, and leaves what it started alone.
    pub async fn kill9(&mut self) {
        for mut child in self.running.drain(..) {
            child.kill().await.expect("zlh is killed");
        }
    }

    /// Sends a signal to `zlh`.
    pub fn signal(&self, signal: rustix::process::Signal) {
        for child in self.running.iter().rev() {
            if let Some(pid) = child
                .id()
                .and_then(|pid| i32::try_from(pid).ok())
                .and_then(rustix::process::Pid::from_raw)
            {
                rustix::process::kill_process(pid, signal).expect("zlh is there to be told");
            }
        }
    }

    /// One number of `/metrics`, by its name and labels as they are written there; 0 if it is not there yet.
    ///
    /// # Errors
    /// When nothing answers.
    pub async fn metric(&self, name: &str) -> std::io::Result<i64> {
        let request = request(::http::Method::GET, "/metrics", &[], None);
        let text = send(self.admin_listener(), request).await?.expect(200).text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.map_or(0, |number| number.parse().expect("a number")))
    }

    /// Ends `zlh` as an operator would, and answers how each process ended.
    pub async fn terminate(&mut self) -> Vec<ExitStatus> {
        self.signal(rustix::process::Signal::TERM);
        let mut ends = Vec::new();
        for mut child in self.running.drain(..).rev() {
            ends.push(
                tokio::time::timeout(ENDING, child.wait())
                    .await
                    .expect("zlh ends in time")
                    .expect("a status"),
            );
        }
        ends
    }

    /// `zlh down`: ends the containers.
    pub async fn down(&self) {
        let status = self.down_command().status().await.expect("zlh down starts");
        assert!(status.success(), "zlh down: {status}");
    }

    fn down_command(&self) -> tokio::process::Command {
        let mut down = tokio::process::Command::new(config::zlh());
        down.arg("down")
            .arg("--data-dir")
            .arg(self.data())
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        down
    }

    /// What `zlh variables` would have components told.
    pub async fn variables(&self) -> String {
        let output = self.command(&["variables"]).kill_on_drop(true).output().await;
        String::from_utf8(output.expect("zlh variables runs").stdout).expect("text")
    }

    /// What `zlh doctor` says of the settings that it is started with.
    pub async fn doctor(&self) -> std::process::Output {
        let mut doctor = self.proxy_command(&["doctor", "--json"]);
        let output = tokio::time::timeout(STARTING, doctor.kill_on_drop(true).output()).await;
        output.expect("zlh doctor ends").expect("zlh doctor starts")
    }

    /// What becomes of another `zlh up` that is given this one's data folder.
    pub async fn second_on_the_same_folder(&self) -> std::process::Output {
        let mut second = self.proxy_command(&["up", "--json"]);
        second.stderr(Stdio::piped());
        let output = tokio::time::timeout(STARTING, second.kill_on_drop(true).output()).await;
        output.expect("the second zlh ends").expect("the second zlh starts")
    }

    /// The last of what `zlh` logged.
    #[must_use]
    pub fn log(&self) -> String {
        tail(&self.log_path())
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("zlh.log")
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- the end of zlh's log ---\n{}\n---", self.log());
            for status in self.running.iter_mut().filter_map(|child| child.try_wait().ok()?) {
                eprintln!("--- zlh ended with {status} ---");
            }
            for container in
                std::fs::read_dir(self.data().join("containers")).into_iter().flatten().flatten()
            {
                let log = container.path().join("agent.log");
                eprintln!("--- {} ---\n{}\n---", log.display(), tail(&log));
            }
        }
        for child in &mut self.running {
            child.start_kill().ok();
        }
        // The best that can be done here: what is left over is ended by its number.
        self.down_command().as_std_mut().stderr(Stdio::null()).status().ok();
        for process in processes::of_folder(self.folder.path()) {
            process.kill();
        }
    }
}

/// A new folder and the lock that says so, once what killed tests left behind is removed.
pub(crate) fn folder_in_use(name: &str) -> (TempDir, File) {
    // A folder that is not locked yet would look like one that was left behind.
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    remove_leftovers();
    let folder = config::scratch(name);
    let in_use = File::create(folder.path().join(IN_USE)).expect("a lock file");
    in_use.try_lock().expect("the lock of a new file");
    (folder, in_use)
}

/// Ends and removes what killed tests left behind.
fn remove_leftovers() {
    for entry in std::fs::read_dir(config::scratch_root()).into_iter().flatten().flatten() {
        let folder = entry.path();
        let Ok(lock) = File::options().write(true).open(folder.join(IN_USE)) else { continue };
        if lock.try_lock().is_ok() {
            for process in processes::of_folder(&folder) {
                process.kill();
            }
            std::fs::remove_dir_all(&folder).ok();
        }
    }
}

fn tail(path: &Path) -> String {
    const LINES: usize = 60;

    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    // Polling fills the log with answers that were right.
    let lines: Vec<_> = text.lines().filter(|line| !line.contains(" status=200 ")).collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}
