//! A real browser, driven through its own driver, and what it says about its WebSockets.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::Duration;

use ::http::Method;
use fantoccini::actions::{InputSource as _, KeyAction, KeyActions};
use fantoccini::key::Key;
use fantoccini::wd::{Capabilities, WebDriverCompatibleCommand};
use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::{Child, Command};

use crate::{config, eventually, ports, processes};

/// Longest wait for something to appear on a page.
const LIMIT: Duration = Duration::from_secs(60);

/// A browser with one window.
pub struct Browser {
    /// Drives the window.
    pub client: Client,
    sockets: BTreeMap<String, SocketState>,
    driver: Child,
    profile: TempDir,
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A driver that is killed leaves its browser behind.
        self.driver.start_kill().ok();
        for process in processes::of_folder(self.profile.path()) {
            process.kill();
        }
    }
}

/// What happened to one WebSocket of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SocketState {
    /// What it was opened to.
    pub url: String,
    /// The upgrade was answered 101.
    pub open: bool,
    /// It was closed, by whichever side.
    pub closed: bool,
    /// What went wrong, such as an upgrade that was refused.
    pub errors: Vec<String>,
}

impl Browser {
    /// Starts one.
    pub async fn start() -> Self {
        let port = ports::free();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .expect("chromedriver (Debian package chromium-driver)");
        let profile = tempfile::tempdir().expect("a folder for the browser");
        let url = format!("http://127.0.0.1:{port}");
        let capabilities = capabilities(&profile);
        let connect = async || {
            let mut builder =
                ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new());
            builder
                .capabilities(capabilities.clone())
                .connect(&url)
                .await
                .map_err(|error| error.to_string())
        };
        let client = eventually(LIMIT, connect, Result::is_ok).await.expect("a browser");
        Self { client, sockets: BTreeMap::new(), driver, profile }
    }

    /// Makes the page, without what is around it, as large as told.
    pub async fn resize(&self, width: u32, height: u32) {
        let script = "return [window.outerWidth - window.innerWidth, window.outerHeight - window.innerHeight]";
        let frame =
            self.client.execute(script, Vec::new()).await.expect("an answer of the browser");
        let [wider, higher]: [u32; 2] = serde_json::from_value(frame).expect("two numbers");
        self.client
            .set_window_size(width + wider, height + higher)
            .await
            .expect("the window's size is set");
    }

    /// Clicks on the first that matches.
    pub async fn click(&self, css: &str) {
        let element = self.client.find(Locator::Css(css)).await.expect("it is on the page");
        element.click().await.expect("it can be clicked");
    }

    /// Waits until something is on the page.
    pub async fn appears(&self, css: &str) {
        let found =
            async || self.client.find_all(Locator::Css(css)).await.map_or(0, |found| found.len());
        eventually(LIMIT, found, |&count| count > 0).await;
    }

    /// How often something is on the page now.
    pub async fn count(&self, css: &str) -> usize {
        self.client.find_all(Locator::Css(css)).await.expect("an answer of the browser").len()
    }

    /// The text of everything that matches.
    pub async fn texts(&self, css: &str) -> Vec<String> {
        let script =
            "return [...document.querySelectorAll(arguments[0])].map(node => node.textContent)";
        let texts = self.client.execute(script, vec![json!(css)]).await;
        texts.ok().and_then(|texts| serde_json::from_value(texts).ok()).unwrap_or_default()
    }

    /// Presses Ctrl and one character's key.
    pub async fn press_ctrl(&self, value: char) {
        let actions = KeyActions::new("keys".to_owned())
            .then(KeyAction::Down { value: char::from(Key::Control) })
            .then(KeyAction::Down { value })
            .then(KeyAction::Up { value })
            .then(KeyAction::Up { value: char::from(Key::Control) });
        self.client.perform_actions(actions).await.expect("keys are pressed");
    }

    /// Types text where the cursor is, and Enter.
    pub async fn type_line(&self, text: &str) {
        let mut actions = KeyActions::new("keys".to_owned());
        for value in text.chars().chain([char::from(Key::Enter)]) {
            actions = actions.then(KeyAction::Down { value }).then(KeyAction::Up { value });
        }
        self.client.perform_actions(actions).await.expect("text is typed");
    }

    /// Every WebSocket since the start, in the browser's own words.
    pub async fn sockets(&mut self) -> Vec<SocketState> {
        let log = self.client.issue_cmd(PerformanceLog).await.expect("the browser's log");
        for entry in log.as_array().expect("entries") {
            let Some(message) = entry["message"].as_str() else { continue };
            let message: Value = serde_json::from_str(message).expect("JSON");
            self.note(&message["message"]);
        }
        self.sockets.values().cloned().collect()
    }

    /// The WebSockets that are open now.
    pub async fn open_sockets(&mut self) -> Vec<SocketState> {
        let mut sockets = self.sockets().await;
        sockets.retain(|socket| socket.open && !socket.closed);
        sockets
    }

    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        let Some(id) = parameters["requestId"].as_str() else { return };
        let kind = event["method"].as_str().unwrap_or_default();
        if kind == "Network.webSocketCreated" {
            let url = parameters["url"].as_str().unwrap_or_default().to_owned();
            let state = SocketState { url, open: false, closed: false, errors: Vec::new() };
            self.sockets.insert(id.to_owned(), state);
        }
        let Some(socket) = self.sockets.get_mut(id) else { return };
        match kind {
            "Network.webSocketHandshakeResponseReceived" => {
                socket.open = parameters["response"]["status"] == 101;
                if !socket.open {
                    socket.errors.push(parameters["response"]["status"].to_string());
                }
            }
            "Network.webSocketFrameError" => {
                socket.errors.push(parameters["errorMessage"].to_string())
            }
            "Network.webSocketClosed" => socket.closed = true,
            _ => {}
        }
    }

    /// Keeps a picture of the page.
    pub async fn screenshot(&self, name: &str) {
        let folder = config::screenshots();
        std::fs::create_dir_all(&folder).expect("room for pictures");
        let picture = self.client.screenshot().await.expect("a picture");
        std::fs::write(folder.join(format!("{name}.png")), picture)
            .expect("the picture is written");
    }
}

fn capabilities(profile: &TempDir) -> Capabilities {
    let capabilities = json!({
        "goog:chromeOptions": {
            "args": [
                "--headless=new",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-quic",
                "--no-first-run",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-dev-shm-usage",
                "--disable-sync",
                "--force-device-scale-factor=1",
                "--window-size=1280,800",
                format!("--user-data-dir={}", profile.path().display()),
            ],
            "perfLoggingPrefs": { "enableNetwork": true, "enablePage": false },
        },
        "goog:loggingPrefs": { "performance": "ALL", "browser": "ALL" },
    });
    match capabilities {
        Value::Object(capabilities) => capabilities,
        _ => unreachable!("an object was written above"),
    }
}

/// What the browser logged since this was last asked.
#[derive(Debug)]
struct PerformanceLog;

impl WebDriverCompatibleCommand for PerformanceLog {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (Method, Option<String>) {
        (Method::POST, Some(json!({ "type": "performance" }).to_string()))
    }
}
