//! The console over a WebSocket: many attachments, each reading the back-log at its own pace.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Query, State};
use axum::response::Response;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use serde::Deserialize;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use zlh_agent_protocol::console::{FromClient, FromServer, MAX_INPUT_BYTES, SUBPROTOCOL};

use crate::agent::Agent;
use crate::backlog::Backlog;
use crate::error::{ApiError, chain};
use crate::limit::Limit;
use crate::server::Run;
use crate::shell::Viewer;

/// Output is sent in pieces of at most this.
const PIECE: usize = 32 * 1024;
/// Between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// A client that takes no frame for so long is dropped: nothing is kept for it but the back-log.
const SEND_LIMIT: Duration = Duration::from_secs(15);
/// A client that answers no ping for so long is gone.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// Frames of input a second, and at once: faster than anybody types, and enough for a paste.
const INPUT_RATE: f64 = 50.0;
const INPUT_BURST: f64 = 200.0;
/// Sides of a window, in characters.
const SIDE: std::ops::RangeInclusive<u16> = 1..=1000;

/// Where to go on.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct From {
    after: Option<u64>,
}

pub(super) async fn stream(
    State(agent): State<Arc<Agent>>,
    Query(from): Query<From>,
    upgrade: WebSocketUpgrade,
) -> Result<Response, ApiError> {
    let terminal = Terminal::of(&agent).await?;
    let slot = Arc::clone(&agent.attachments)
        .try_acquire_owned()
        .map_err(|_| ApiError::TooMany("the console has as many viewers as it can".to_owned()))?;
    let upgrade = upgrade
        .protocols([SUBPROTOCOL])
        .max_message_size(MAX_INPUT_BYTES)
        .max_frame_size(MAX_INPUT_BYTES);
    let framed = upgrade.selected_protocol().is_some();
    Ok(upgrade.on_upgrade(move |socket| attach(agent, terminal, socket, from.after, framed, slot)))
}

/// What is behind a console.
enum Terminal {
    /// The game server's, whichever run it is at.
    Server,
    /// The shell's, which the console ends with.
    Shell(Viewer),
}

impl Terminal {
    async fn of(agent: &Agent) -> Result<Self, ApiError> {
        if agent.server.launch().is_some() {
            return Ok(Self::Server);
        }
        if !agent.shell.is_there() {
            return Err(ApiError::Conflict("there is no console here yet".to_owned()));
        }
        let viewer = agent.shell.view().await;
        viewer.map(Self::Shell).map_err(|error| ApiError::Unavailable(chain(&error)))
    }

    fn console<'a>(&self, agent: &'a Agent) -> &'a Backlog {
        match self {
            Self::Server => &agent.server.console,
            Self::Shell(_) => &agent.shell.console,
        }
    }

    fn run(&self, agent: &Agent) -> Option<Arc<Run>> {
        match self {
            Self::Server => agent.server.run(),
            Self::Shell(viewer) => Some(Arc::clone(&viewer.run)),
        }
    }

    async fn ended(&self) {
        match self {
            Self::Server => std::future::pending().await,
            Self::Shell(viewer) => viewer.run.ended().await,
        }
    }
}

async fn attach(
    agent: Arc<Agent>,
    terminal: Terminal,
    socket: WebSocket,
    after: Option<u64>,
    framed: bool,
    _slot: OwnedSemaphorePermit,
) {
    let (sink, stream) = socket.split();
    tokio::select! {
        // A client that goes away is nothing to talk about.
        _ = output(terminal.console(&agent), sink, after, framed) => {}
        () = input(&agent, &terminal, stream, framed) => {}
        () = terminal.ended() => {}
        () = agent.stopping.cancelled() => {}
    }
}

async fn output(
    console: &Backlog,
    mut sink: SplitSink<WebSocket, Message>,
    after: Option<u64>,
    framed: bool,
) -> Result<(), axum::Error> {
    let mut news = console.subscribe();
    let mut pings = tokio::time::interval(KEEP_ALIVE);
    let mut from = after.unwrap_or_default();
    // A client that is new misses nothing.
    let mut missed = after.is_some();
    let mut carry = Vec::new();
    loop {
        let chunk = console.read(from, PIECE);
        if chunk.at != from {
            carry.clear();
            if missed && framed {
                send(&mut sink, &FromServer::Gap { seq: chunk.at }).await?;
            }
        }
        missed = true;
        from = chunk.end();
        if chunk.bytes.is_empty() {
            tokio::select! {
                _ = news.changed() => {}
                _ = pings.tick() => send_message(&mut sink, Message::Ping(Vec::new().into())).await?,
            }
            continue;
        }
        carry.extend(chunk.bytes);
        let data = take_text(&mut carry);
        let seq = from - u64::try_from(carry.len()).unwrap_or_default();
        match (data.is_empty(), framed) {
            (true, _) => {}
            (false, true) => send(&mut sink, &FromServer::Output { seq, data }).await?,
            (false, false) => send_message(&mut sink, Message::Text(data.into())).await?,
        }
    }
}

async fn send(
    sink: &mut SplitSink<WebSocket, Message>,
    frame: &FromServer,
) -> Result<(), axum::Error> {
    let text = serde_json::to_string(frame).map_err(axum::Error::new)?;
    send_message(sink, Message::Text(text.into())).await
}

async fn send_message(
    sink: &mut SplitSink<WebSocket, Message>,
    message: Message,
) -> Result<(), axum::Error> {
    timeout(SEND_LIMIT, sink.send(message)).await.map_err(axum::Error::new)?
}

/// Takes all whole characters out; what is the beginning of one stays. What can be none is replaced.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::with_capacity(bytes.len());
    let mut rest = bytes.as_slice();
    let left = loop {
        match std::str::from_utf8(rest) {
            Ok(whole) => {
                text.push_str(whole);
                break 0;
            }
            Err(error) => {
                let (good, bad) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(good));
                let Some(length) = error.error_len() else { break bad.len() };
                text.push(char::REPLACEMENT_CHARACTER);
                rest = bad.get(length..).unwrap_or_default();
            }
        }
    };
    bytes.drain(..bytes.len() - left);
    text
}

async fn input(
    agent: &Agent,
    terminal: &Terminal,
    mut stream: SplitStream<WebSocket>,
    framed: bool,
) {
    let limit = Limit::new(INPUT_RATE, INPUT_BURST);
    while let Ok(Some(Ok(message))) = timeout(SILENCE_LIMIT, stream.next()).await {
        let text = match message {
            Message::Text(text) => text,
            Message::Close(_) => return,
            // Signs of life; and bytes, which no terminal sends.
            Message::Ping(_) | Message::Pong(_) | Message::Binary(_) => continue,
        };
        let Some(run) = terminal.run(agent) else { continue };
        if limit.take().is_err() {
            return;
        }
        let asked = if framed {
            match serde_json::from_str(&text) {
                Ok(asked) => asked,
                Err(_) => return,
            }
        } else {
            FromClient::Input { data: text.to_string() }
        };
        match asked {
            // A server that does not read loses what is typed.
            FromClient::Input { data } => drop(run.input(data)),
            FromClient::Resize { cols, rows } if SIDE.contains(&cols) && SIDE.contains(&rows) => {
                run.resize(cols, rows);
            }
            FromClient::Resize { .. } => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_character_that_is_cut_waits_for_its_end() {
        let mut bytes = "a\u{20ac}".as_bytes()[..3].to_vec();
        assert_eq!(take_text(&mut bytes), "a");
        assert_eq!(bytes, [0xe2, 0x82]);

        bytes.extend([0xac, 0xff, b'b']);
        assert_eq!(take_text(&mut bytes), "\u{20ac}\u{fffd}b");
        assert!(bytes.is_empty());
    }
}
