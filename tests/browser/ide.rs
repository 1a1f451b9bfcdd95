//! The IDE, in both ways of reaching it: it loads, its WebSockets stay, its terminal works, and all of
//! that survives the death of zlh.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use fantoccini::Locator;
use system_tests::browser::{Browser, SocketState};
use system_tests::{Stack, StackOptions, eventually};

/// Longest wait for one thing to happen.
const LIMIT: Duration = Duration::from_secs(60);
/// Longer than any idle timeout or retry on the way would let a half-working connection live.
const STAYING: Duration = Duration::from_secs(60);

const PROGRAM: &str = "import { createServer } from 'node:http';\n\n\
    const server = createServer((request, response) => {\n  response.end('Hello from my dev container\\n');\n});\n\n\
    server.listen(3000, () => console.log('listening on 3000'));\n";

/// A terminal that draws on a canvas has no text to wait for.
const SETTINGS: &str = r#"{"terminal.integrated.gpuAcceleration": "off"}"#;

#[tokio::test]
async fn the_ide_works_at_a_host_of_its_own() {
    works("hosted", StackOptions::default()).await;
}

#[tokio::test]
async fn the_ide_works_below_a_path() {
    works("tunnel", StackOptions::default().with("DEV_IDE_RETURN_HOSTED_URL", "false")).await;
}

async fn works(mode: &str, options: StackOptions) {
    let mut stack = Stack::start_with(options).await;
    let session = stack.api().register("ann").await;
    let vmid = session.create_dev(true).await;
    session.ready(vmid).await;
    let workspace = stack.workspace(vmid);
    fs::write(workspace.join("server.mjs"), PROGRAM).unwrap();
    fs::write(workspace.join("README.md"), "# My project\n").unwrap();
    fs::create_dir(workspace.join(".vscode")).unwrap();
    fs::write(workspace.join(".vscode/settings.json"), SETTINGS).unwrap();
    let (_, url) = session.ide_token(vmid).await;
    let url =
        if url.starts_with('/') { format!("http://{}{url}", stack.api().address) } else { url };

    let mut browser = Browser::start().await;
    browser.resize(1280, 800).await;
    browser.client.goto(&url).await.unwrap();

    // It loads, and shows the workspace.
    browser.appears(".monaco-workbench").await;
    let rows = async || browser.texts(".explorer-folders-view .monaco-list-row").await;
    eventually(LIMIT, rows, |rows| rows.iter().any(|row| row.contains("server.mjs"))).await;
    let address = browser.client.current_url().await.unwrap();
    assert!(!address.as_str().contains("token"), "{address}");
    match mode {
        "hosted" => {
            assert_eq!(address.host_str(), Some(format!("dev-{vmid}.ide.localhost").as_str()))
        }
        _ => assert!(address.path().starts_with(&format!("/__ide/{vmid}/")), "{address}"),
    }

    // Both WebSockets are up; the terminal works.
    let first = two_open_sockets(&mut browser).await;
    open_terminal(&browser).await;
    types_a_file(&browser, &workspace, "typed.txt", "by-hand").await;

    // They stay up.
    let started = Instant::now();
    let still_open = async || {
        assert_eq!(browser.open_sockets().await, first);
        started.elapsed()
    };
    eventually(STAYING + LIMIT, still_open, |elapsed| *elapsed >= STAYING).await;
    for socket in browser.sockets().await {
        assert!(!socket.closed && socket.errors.is_empty(), "{socket:?}");
    }
    nothing_is_wrong(&browser).await;
    picture(&browser, mode).await;

    // zlh dies under the open page and comes back.
    stack.kill9().await;
    let gone = async || browser.open_sockets().await;
    eventually(LIMIT, gone, Vec::is_empty).await;
    stack.restart().await;

    let again = two_open_sockets(&mut browser).await;
    assert!(again.iter().all(|socket| socket.url.contains("reconnection=true")), "{again:#?}");
    let dialogs = async || browser.count(".monaco-dialog-box").await;
    eventually(LIMIT, dialogs, |count| *count == 0).await;
    types_a_file(&browser, &workspace, "typed-again.txt", "after-the-restart").await;
    nothing_is_wrong(&browser).await;
    browser.screenshot(&format!("ide-{mode}-after-restart")).await;
}

/// The workbench has two: one for itself and its terminals, one for extensions.
async fn two_open_sockets(browser: &mut Browser) -> Vec<SocketState> {
    eventually(LIMIT, async || browser.open_sockets().await, |sockets| sockets.len() == 2).await
}

async fn open_terminal(browser: &Browser) {
    // The keys reach the workbench only once it listens, so they are pressed until a terminal is there.
    let open = async || {
        if browser.count(".terminal-wrapper .xterm").await == 0 {
            browser.press_ctrl('`').await;
        }
        browser.count(".terminal-wrapper .xterm").await
    };
    eventually(LIMIT, open, |count| *count > 0).await;
    // What is typed before the shell's prompt is there can be lost.
    let shown = async || browser.texts(".terminal-wrapper .xterm-rows").await.concat();
    eventually(LIMIT, shown, |text| text.contains('$')).await;
}

/// Types a command in the terminal whose effect is seen on the disk of the container.
async fn types_a_file(browser: &Browser, workspace: &Path, name: &str, content: &str) {
    browser.click(".terminal-wrapper .xterm-screen").await;
    browser.type_line(&format!("echo {content} > {name}")).await;

    let file = workspace.join(name);
    let read = async || fs::read_to_string(&file).unwrap_or_default();
    eventually(LIMIT, read, |text| text.trim() == content).await;
}

async fn nothing_is_wrong(browser: &Browser) {
    for css in [".monaco-dialog-box", ".notification-toast .codicon-error"] {
        assert_eq!(browser.count(css).await, 0, "{css}: {:?}", browser.texts(css).await);
    }
}

/// A picture of the IDE in use.
async fn picture(browser: &Browser, mode: &str) {
    let row = Locator::XPath("//*[contains(@class,'monaco-list-row')]//*[text()='server.mjs']");
    browser.client.find(row).await.unwrap().click().await.unwrap();
    browser.appears(".editor-instance .view-line").await;
    browser.screenshot(&format!("ide-{mode}")).await;
}
