//! `zlh-agent hold`: a small process that owns one run of a game server and its terminal.
//!
//! The agent may be killed, upgraded and started again meanwhile: it finds the holder by its socket, and with
//! it the server, its console and how long it has run. The holder is the parent of all that the server
//! starts, however far that wanders, and sees how it ends; it writes that down and ends everything that is
//! left before it ends itself.

pub(crate) mod wire;

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{SinkExt as _, StreamExt as _};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use time::OffsetDateTime;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use zlh_agent_protocol::game::StopSignal;

use crate::backlog::Backlog;
use crate::durable;
use crate::process::Tree;
use wire::{FromHolder, Hello, Order, PIECE, Record, ToHolder, frames};

/// What a holder says on its standard output once the server runs; anything else is why it does not.
pub(crate) const STARTED: &str = "started";
/// An order is a command and its environment.
const MAX_ORDER: u64 = 1 << 20;
/// Input that a server does not read is dropped beyond this many frames.
const INPUT_QUEUE: usize = 64;
/// How long last words are waited for.
const LAST_WORDS: Duration = Duration::from_millis(300);
/// How long clients may take to read them.
const FAREWELL: Duration = Duration::from_secs(2);
const TAIL_BYTES: usize = 16 * 1024;
const SIZE: (u16, u16) = (30, 120);

/// Where a holder listens, below the state folder.
pub(crate) fn socket(state: &Path) -> PathBuf {
    state.join("server.sock")
}

/// Where a holder writes how its run ended.
pub(crate) fn record(state: &Path) -> PathBuf {
    state.join("server-exit.json")
}

/// A path to a socket for which the length of its folder's does not count: `sun_path` is short.
pub(crate) fn short(folder: &std::fs::File, path: &Path) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    let name = path.file_name().unwrap_or_default();
    Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name)
}

/// Runs the server that standard input tells of, to its end.
///
/// # Errors
///
/// It could not be started; standard output has the same text.
pub fn hold() -> anyhow::Result<()> {
    let held = start();
    if let Err(error) = &held {
        // Nobody may be there to read it.
        let _ = write!(std::io::stdout(), "{error:#}");
    }
    held
}

fn start() -> anyhow::Result<()> {
    let mut text = String::new();
    std::io::stdin().take(MAX_ORDER).read_to_string(&mut text).context("cannot read the order")?;
    let order: Order = serde_json::from_str(&text).context("cannot understand the order")?;
    // A session of its own: what ends the agent's does not reach it. It may have one already.
    let _ = rustix::process::setsid();
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot become the parent of what the server leaves behind")?;
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?
        .block_on(run(order))
}

/// What the tasks of a holder share.
struct Held {
    order: Order,
    pid: Pid,
    started: Instant,
    output: Backlog,
    input: mpsc::Sender<Vec<u8>>,
    size: watch::Sender<(u16, u16)>,
    ended: CancellationToken,
}

async fn run(order: Order) -> anyhow::Result<()> {
    // Whoever ends a container asks all its processes at once; the holder ends when its server has.
    let _deaf = [SignalKind::terminate(), SignalKind::hangup(), SignalKind::interrupt()]
        .map(signal)
        .into_iter()
        .collect::<Result<Vec<_>, _>>()
        .context("cannot wait for signals")?;
    let mut children = signal(SignalKind::child()).context("cannot wait for children")?;
    let listener = listen(&order.state).context("cannot listen for the agent")?;

    let (pty, pts) = pty_process::open().context("cannot open a terminal")?;
    pty.resize(pty_process::Size::new(SIZE.0, SIZE.1)).context("cannot size the terminal")?;
    let mut command = pty_process::Command::new(&order.program)
        .args(&order.arguments)
        .env_clear()
        .envs(&order.environment)
        .current_dir(&order.folder);
    if let Some(ids) = order.ids {
        rustix::fs::fchown(
            pts.as_fd(),
            Some(rustix::fs::Uid::from_raw(ids.uid)),
            Some(rustix::fs::Gid::from_raw(ids.gid)),
        )
        .context("cannot give the terminal to the server's user")?;
        command = command.uid(ids.uid).gid(ids.gid);
    }
    let child =
        command.spawn(pts).with_context(|| format!("cannot start {}", order.program.display()))?;
    let pid = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(Pid::from_raw)
        .context("the server has no number")?;

    let (input, typed) = mpsc::channel(INPUT_QUEUE);
    let held = Arc::new(Held {
        pid,
        started: Instant::now(),
        output: Backlog::new(order.begin),
        input,
        size: watch::Sender::new(SIZE),
        ended: CancellationToken::new(),
        order,
    });
    let tasks = TaskTracker::new();
    let terminal = tokio::spawn(terminal(Arc::clone(&held), pty, typed));
    let clients = tokio::spawn(accept(Arc::clone(&held), listener, tasks.clone()));
    tell_started()?;

    let status = loop {
        children.recv().await;
        if let Some(status) = reap(pid) {
            break status;
        }
    };
    let uptime = held.started.elapsed();
    // Whatever it left behind may hold the terminal, so its end is not waited for.
    let _ = tokio::time::timeout(LAST_WORDS, terminal).await;
    write_record(&held, status, uptime).context("cannot write how the server ended")?;
    held.ended.cancel();
    clients.abort();
    tasks.close();
    let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
    // `child` was reaped above.
    drop(child);
    Tree::children_of_this().end().await.context("cannot end what the server left behind")
}

fn tell_started() -> anyhow::Result<()> {
    let mut stdout = std::io::stdout();
    write!(stdout, "{STARTED}").and_then(|()| stdout.flush()).context("the agent is gone")?;
    // The agent waits for the end of this.
    rustix::stdio::dup2_stdout(std::fs::File::open("/dev/null")?).context("cannot close the output")
}

fn listen(state: &Path) -> anyhow::Result<UnixListener> {
    let path = socket(state);
    crate::layout::remove(&path)?;
    let folder = std::fs::File::open(state)?;
    Ok(UnixListener::bind(short(&folder, &path))?)
}

/// Reaps all that has ended; how the server did, if it is among them.
fn reap(server: Pid) -> Option<WaitStatus> {
    let mut found = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == server {
            found = Some(status);
        }
    }
    found
}

fn write_record(held: &Held, status: WaitStatus, uptime: Duration) -> anyhow::Result<()> {
    let now = OffsetDateTime::now_utc();
    let written = Record {
        run: held.order.run,
        exit_code: status.exit_status(),
        signal: status.terminating_signal(),
        ended_at_ms: i64::try_from(now.unix_timestamp_nanos() / 1_000_000)?,
        uptime_ms: u64::try_from(uptime.as_millis())?,
        end: held.output.end(),
        tail: String::from_utf8_lossy(&held.output.tail(TAIL_BYTES)).into_owned(),
    };
    Ok(durable::write(&record(&held.order.state), &serde_json::to_vec(&written)?)?)
}

/// The only reader and writer of the terminal.
async fn terminal(held: Arc<Held>, mut pty: pty_process::Pty, mut typed: mpsc::Receiver<Vec<u8>>) {
    let mut size = held.size.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    let mut pending: Vec<u8> = Vec::new();
    loop {
        let (mut reader, mut writer) = pty.split();
        tokio::select! {
            read = reader.read(&mut buffer) => match read {
                // EIO is how Linux says that nobody has the other side open any more.
                Ok(0) | Err(_) => return,
                Ok(count) => {
                    let end = held.output.end();
                    held.output.push(end, buffer.get(..count).unwrap_or_default());
                    // A server that floods must not keep the other tasks from their turn.
                    tokio::task::yield_now().await;
                }
            },
            written = writer.write(&pending), if !pending.is_empty() => match written {
                Ok(count) => drop(pending.drain(..count)),
                Err(_) => pending.clear(),
            },
            input = typed.recv(), if pending.is_empty() => match input {
                Some(input) => pending = input,
                None => return,
            },
            _ = size.changed() => {
                let (rows, cols) = *size.borrow_and_update();
                // What has ended has no size.
                let _ = pty.resize(pty_process::Size::new(rows, cols));
            }
        }
    }
}

async fn accept(held: Arc<Held>, listener: UnixListener, tasks: TaskTracker) {
    while let Ok((stream, _)) = listener.accept().await {
        let held = Arc::clone(&held);
        tasks.spawn(async move {
            // An agent that goes away is no matter of the server's.
            let _ = client(&held, stream).await;
        });
    }
}

async fn client(held: &Arc<Held>, stream: UnixStream) -> std::io::Result<()> {
    let (mut sink, mut messages) = frames(stream).split();
    let Some(Ok(first)) = messages.next().await else { return Ok(()) };
    let ToHolder::Attach { from } = ToHolder::decode(&first)? else { return Ok(()) };
    let hello = Hello {
        run: held.order.run,
        pid: held.pid.as_raw_nonzero().get(),
        uptime_ms: u64::try_from(held.started.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    sink.send(FromHolder::Hello(hello).encode()?).await?;

    let output = async {
        let (mut from, mut news) = (from, held.output.subscribe());
        loop {
            let ended = held.ended.is_cancelled();
            let chunk = held.output.read(from, PIECE);
            if !chunk.bytes.is_empty() {
                from = chunk.end();
                let piece = FromHolder::Output { at: chunk.at, bytes: chunk.bytes.into() };
                sink.send(piece.encode()?).await?;
            } else if ended {
                return Ok(());
            } else {
                tokio::select! {
                    _ = news.changed() => {}
                    () = held.ended.cancelled() => {}
                }
            }
        }
    };
    let obey = async {
        while let Some(message) = messages.next().await {
            held.obey(ToHolder::decode(&message?)?);
        }
        Ok(())
    };
    let mut obey = pin!(obey);
    tokio::select! {
        done = output => match done {
            // An agent that died may have said something before.
            Err(_) => obey.await,
            ended => ended,
        },
        done = &mut obey => done,
    }
}

impl Held {
    fn obey(&self, message: ToHolder) {
        match message {
            ToHolder::Attach { .. } => {}
            // A server that does not read does not get more.
            ToHolder::Input { data } => drop(self.input.try_send(data.into_bytes())),
            ToHolder::Resize { cols, rows } => drop(self.size.send_replace((rows, cols))),
            ToHolder::Signal { signal } => {
                let signal = match signal {
                    StopSignal::Term => Signal::TERM,
                    StopSignal::Int => Signal::INT,
                };
                // It may have ended by now.
                let _ = rustix::process::kill_process_group(self.pid, signal);
            }
            // Its task ends with the last of them.
            ToHolder::Kill => drop(tokio::spawn(Tree::children_of_this().kill())),
        }
    }
}
