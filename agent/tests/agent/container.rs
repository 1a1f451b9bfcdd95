//! A root folder with settings for it, and a client of the agent that serves it.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

pub(crate) const TOKEN: &str = "the-token-of-this-container";

pub(crate) struct Container {
    folder: TempDir,
    pub(crate) vars: HashMap<&'static str, String>,
}

impl Container {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        let folder = tempfile::tempdir().unwrap();
        // The workload, another user, must get to its home.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let root = folder.path().join("6001");
        let mut vars = HashMap::from([
            ("ZLH_AGENT_VMID", "6001".to_owned()),
            ("ZLH_AGENT_TOKEN", TOKEN.to_owned()),
            ("ZLH_AGENT_LISTEN", "127.0.0.1:0".to_owned()),
            ("ZLH_AGENT_ROOT", root.display().to_string()),
            ("ZLH_CODE_SERVER_LISTEN", format!("unix:{}/run/ide/ide.sock", root.display())),
        ]);
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            // A user of this container alone.
            let uid = 300_000
                + std::process::id() % 1_000_000 * 100
                + COUNT.fetch_add(1, Ordering::Relaxed);
            vars.insert("ZLH_AGENT_UID", uid.to_string());
        }
        Self { folder, vars }
    }

    pub(crate) fn path(&self, below: &str) -> PathBuf {
        self.folder.path().join("6001").join(below)
    }

    pub(crate) fn uid(&self) -> u32 {
        match self.vars.get("ZLH_AGENT_UID") {
            Some(uid) => uid.parse().unwrap(),
            None => fs::metadata("/proc/self").unwrap().uid(),
        }
    }

    /// Processes whose arguments name this container's root, by number.
    pub(crate) fn processes(&self) -> Vec<i32> {
        let root = self.path("opt/").display().to_string();
        processes(|arguments, _| arguments.contains(&root))
    }

    /// All that belongs to the container: as root, every process of its user.
    pub(crate) fn everything(&self) -> Vec<i32> {
        if self.vars.contains_key("ZLH_AGENT_UID") {
            processes(|_, uid| uid == self.uid())
        } else {
            self.processes()
        }
    }
}

fn processes(is_wanted: impl Fn(&str, u32) -> bool) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let (Ok(arguments), Ok(metadata)) =
            (fs::read(entry.path().join("cmdline")), entry.metadata())
        else {
            continue;
        };
        // What has ended and waits for its parent has no arguments.
        if !arguments.is_empty() && is_wanted(&String::from_utf8_lossy(&arguments), metadata.uid())
        {
            found.push(pid);
        }
    }
    found
}

pub(crate) fn config(store: &str) -> Value {
    json!({
        "vmid": 6001,
        "container_type": "dev",
        "runtime": "node",
        "version": "24",
        "memory_mb": 512,
        "enable_code_server": true,
        "artifact_base_url": store,
    })
}

/// One request; the answer's status and JSON body.
pub(crate) async fn call(
    agent: SocketAddr,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    call_as(agent, Some(TOKEN), method, path, body).await.unwrap()
}

pub(crate) async fn call_as(
    agent: SocketAddr,
    token: Option<&str>,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> std::io::Result<(u16, Value)> {
    let body = body.map(Value::to_string).unwrap_or_default();
    let authorization =
        token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let mut stream = TcpStream::connect(agent).await?;
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: agent\r\nconnection: close\r\n{authorization}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Ok((status, serde_json::from_str(body).unwrap_or_else(|_| Value::String(body.to_owned()))))
}

/// Asks again until the answer will do, and tells the last one if it never does.
pub(crate) async fn eventually<T: std::fmt::Debug>(
    mut probe: impl AsyncFnMut() -> T,
    done: impl Fn(&T) -> bool,
) -> T {
    let begun = Instant::now();
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    loop {
        ticks.tick().await;
        let value = probe().await;
        if done(&value) {
            return value;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "still {value:?}");
    }
}

pub(crate) async fn status_when(agent: SocketAddr, state: &str) -> Value {
    eventually(
        async || call(agent, "GET", "/status", None).await.1,
        |status| status["state"] == state,
    )
    .await
}
