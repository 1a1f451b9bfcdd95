//! The console over a WebSocket.

use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::container::{Container, TOKEN, call, config, eventually, status_when};
use crate::game::{game, post, say};
use crate::lifecycle::{Agent, Down, free_port};
use crate::store::Store;

struct Console {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    text: String,
    seq: u64,
    gaps: u32,
}

impl Console {
    async fn open(agent: &Agent, after: Option<u64>) -> Self {
        let query = after.map(|seq| format!("?after={seq}")).unwrap_or_default();
        let url = format!("ws://{}/console/stream{query}", agent.address);
        let mut request = url.into_client_request().unwrap();
        let headers = request.headers_mut();
        headers.insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
        headers.insert("sec-websocket-protocol", "zlh.console.v1".parse().unwrap());
        let (socket, _) = connect_async(request).await.unwrap();
        Self { socket, text: String::new(), seq: 0, gaps: 0 }
    }

    /// Reads until the output has this in it.
    async fn until(&mut self, text: &str) {
        let limit = std::time::Duration::from_secs(60);
        let read = async {
            while !self.text.contains(text) {
                let message = self.socket.next().await.expect("it goes on").unwrap();
                let Message::Text(frame) = message else { continue };
                let frame: Value = serde_json::from_str(&frame).unwrap();
                self.seq = frame["seq"].as_u64().unwrap();
                match frame["type"].as_str().unwrap() {
                    "gap" => self.gaps += 1,
                    _ => self.text.push_str(frame["data"].as_str().unwrap()),
                }
            }
        };
        let read = tokio::time::timeout(limit, read).await;
        assert!(read.is_ok(), "no {text:?} in {:?}", self.text);
    }

    async fn send(&mut self, frame: Value) {
        self.socket.send(Message::text(frame.to_string())).await.unwrap();
    }
}

async fn started(container: &Container, port: u16) -> Agent {
    let store = Store::start().await;
    let agent = Agent::start(container, port).await;
    post(&agent, "/config", Some(&game(&store.url(), json!({})))).await;
    status_when(agent.address, "running").await;
    agent
}

#[tokio::test]
async fn all_viewers_see_what_one_of_them_types() {
    let container = Container::new();
    let _down = Down(&container);
    let agent = started(&container, free_port()).await;
    let mut first = Console::open(&agent, None).await;
    first.until("ready to play").await;
    let mut second = Console::open(&agent, None).await;

    first.send(json!({"type": "input", "data": "hello\n"})).await;
    first.until("you said hello").await;
    second.until("you said hello").await;

    first.send(json!({"type": "resize", "cols": 91, "rows": 17})).await;
    first.send(json!({"type": "input", "data": "size\n"})).await;
    second.until("17 91").await;

    // Whoever goes away takes nothing along.
    drop(first);
    say(&agent, "still there").await;
    second.until("you said still there").await;
}

#[tokio::test]
async fn each_line_is_seen_once_whoever_goes_away_meanwhile() {
    let (container, port) = (Container::new(), free_port());
    let _down = Down(&container);
    let agent = started(&container, port).await;
    let mut console = Console::open(&agent, None).await;
    say(&agent, "count 100").await;
    console.until("line 50.").await;
    let (mut text, seq) = (std::mem::take(&mut console.text), console.seq);
    drop(console);

    // The viewer is away, and the agent dies.
    say(&agent, "count 30").await;
    agent.kill();
    let agent = Agent::start(&container, port).await;
    status_when(agent.address, "running").await;
    let mut console = Console::open(&agent, Some(seq)).await;
    say(&agent, "the end").await;
    console.until("you said the end").await;

    text.push_str(&console.text);
    assert_eq!(console.gaps, 0);
    let seen = |line: &str| text.matches(line).count();
    assert_eq!(
        (seen("line 7."), seen("line 50."), seen("line 99."), seen("line 31.")),
        (2, 1, 1, 1)
    );
}

#[tokio::test]
async fn a_server_that_floods_its_console_fills_no_memory() {
    let container = Container::new();
    let _down = Down(&container);
    let agent = started(&container, free_port()).await;
    // One who never reads, and one who reads.
    let _idle = Console::open(&agent, None).await;
    let mut console = Console::open(&agent, None).await;
    console.until("ready to play").await;
    let before = resident_kib(&agent);

    say(&agent, "flood").await;
    let health = call(agent.address, "GET", "/health", None).await;
    assert_eq!(health.0, 200);
    console.text.clear();
    console.until("flooded").await;

    let after = resident_kib(&agent);
    assert!(after < before + 12 * 1024, "from {before} to {after} KiB");
    say(&agent, "hello").await;
    console.until("you said hello").await;
}

#[tokio::test]
async fn a_dev_container_has_one_shell_that_waits_for_whoever_comes_back() {
    let (container, store, port) = (Container::new(), Store::start().await, free_port());
    let _down = Down(&container);
    let agent = Agent::start(&container, port).await;
    let mut dev = config(&store.url());
    dev["enable_code_server"] = false.into();
    post(&agent, "/config", Some(&dev)).await;
    status_when(agent.address, "running").await;
    let mut first = Console::open(&agent, None).await;
    let mut second = Console::open(&agent, None).await;

    first
        .send(json!({"type": "input", "data": "echo $(id -u) in $PWD with $HOME as $USER\n"}))
        .await;
    let (home, uid) = (container.path("home/dev").display().to_string(), container.uid());
    second.until(&format!("{uid} in {home}/workspace with {home} as dev")).await;
    first.send(json!({"type": "input", "data": "command -v node; x=kept\n"})).await;
    second.until("runtimes/node/24/bin/node").await;

    // All viewers are gone, and the agent, too.
    drop((first, second));
    agent.kill();
    let agent = Agent::start(&container, port).await;
    status_when(agent.address, "running").await;
    let mut again = Console::open(&agent, None).await;
    again.send(json!({"type": "input", "data": "echo it is $x\n"})).await;
    again.until("it is kept").await;

    again.send(json!({"type": "input", "data": "exit\n"})).await;
    while let Some(Ok(_)) = again.socket.next().await {}
    let mut new = Console::open(&agent, None).await;
    new.send(json!({"type": "input", "data": "echo it is ${x-new}\n"})).await;
    new.until("it is new").await;
}

#[tokio::test]
async fn viewers_are_counted_and_nonsense_is_not_served() {
    let container = Container::new();
    let _down = Down(&container);
    let agent = started(&container, free_port()).await;
    let mut open = Vec::new();
    for _ in 0..30 {
        open.push(Console::open(&agent, None).await);
    }
    let mut request =
        format!("ws://{}/console/stream", agent.address).into_client_request().unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {TOKEN}").parse().unwrap());
    let refused = connect_async(request.clone()).await.unwrap_err();
    assert!(refused.to_string().contains("429"), "{refused}");

    let mut console = open.pop().unwrap();
    console.send(json!({"type": "resize", "cols": 0, "rows": 1})).await;
    let limit = std::time::Duration::from_secs(20);
    let closed = tokio::time::timeout(limit, async {
        while let Some(Ok(_)) = console.socket.next().await {}
    });
    assert!(closed.await.is_ok(), "it is closed");

    // Without a subprotocol, frames are bare text, as the first portals have it.
    let bare =
        eventually(async || connect_async(request.clone()).await.ok(), Option::is_some).await;
    let (mut bare, _) = bare.unwrap();
    let first = bare.next().await.unwrap().unwrap();
    assert!(first.to_text().unwrap().starts_with("server "), "{first:?}");
}

fn resident_kib(agent: &Agent) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}
