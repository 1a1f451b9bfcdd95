//! One run of a game server, as the agent sees it: the other end of a holder's socket.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{SinkExt as _, StreamExt as _};
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot, watch};
use zlh_agent_protocol::game::{Readiness, StopSignal};

use super::log::LogWatch;
use super::memory;
use crate::backlog::Backlog;
use crate::blocking::blocking;
use crate::holder::wire::{Frames, FromHolder, Hello, Order, Record, ToHolder, frames};
use crate::holder::{STARTED, record, short, socket};
use crate::process::{CONTAINER_VARIABLE, Process};

/// A holder says within this that the server runs: it only has to start a process.
const START_LIMIT: Duration = Duration::from_secs(20);
/// A holder answers at once.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// A holder takes what it is sent at once.
const SAY_LIMIT: Duration = Duration::from_secs(5);
/// Why a server was not started is a sentence.
const MAX_REASON: u64 = 4096;
/// Input and signals on their way to the holder.
const QUEUE: usize = 64;

/// A server was not started.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error("the server cannot be started")]
    Holder(#[source] io::Error),
    #[error("the server was not started: {0}")]
    Refused(String),
}

/// A run whose holder lives, or did.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) id: u64,
    /// The server's process.
    pub(crate) pid: i32,
    /// When it was started, as far as this process's clock goes.
    pub(crate) since: Instant,
    /// How many processes the system had killed for their memory by then.
    pub(crate) memory_kills: u64,
    holder: Process,
    to: mpsc::Sender<Word>,
    /// What the last check said; none before the first.
    checked: Mutex<Option<Result<(), String>>>,
    was_ready: AtomicBool,
    /// Its output had what tells that it is ready.
    pub(crate) log_ready: watch::Receiver<bool>,
}

impl Run {
    /// Starts a holder, and with it what the order says.
    pub(crate) async fn start(
        order: Order,
        console: &Arc<Backlog>,
        readiness: &Readiness,
    ) -> Result<Self, RunError> {
        let state = order.state.clone();
        let (holder, said) = blocking(move || spawn(&order)).await.map_err(RunError::Holder)?;
        let mut answer = String::new();
        let mut said = said.take(MAX_REASON);
        let heard = tokio::time::timeout(START_LIMIT, said.read_to_string(&mut answer)).await;
        match heard {
            Ok(Ok(_)) if answer == STARTED => {}
            Ok(Ok(_)) => {
                holder.exited().await;
                return Err(RunError::Refused(answer));
            }
            Ok(Err(error)) => return Err(RunError::Holder(error)),
            Err(_) => return Err(RunError::Holder(io::ErrorKind::TimedOut.into())),
        }
        Self::attach(&state, Some(holder), console, readiness).await.map_err(RunError::Holder)
    }

    /// The run whose holder has its socket there, if one lives.
    pub(crate) async fn find(
        state: &Path,
        console: &Arc<Backlog>,
        readiness: &Readiness,
    ) -> Option<Self> {
        Self::attach(state, None, console, readiness).await.ok()
    }

    async fn attach(
        state: &Path,
        holder: Option<Process>,
        console: &Arc<Backlog>,
        readiness: &Readiness,
    ) -> io::Result<Self> {
        let folder = File::open(state)?;
        let stream = UnixStream::connect(short(&folder, &socket(state))).await?;
        let pid = stream.peer_cred()?.pid().ok_or(io::ErrorKind::NotFound)?;
        // The connection is open, so that number is still the holder's.
        let holder = holder.map_or_else(|| Process::open(pid), Ok)?;
        let mut frames = frames(stream);
        // A console that is empty takes all that the holder still has.
        frames.send(ToHolder::Attach { from: console.end() }.encode()?).await?;
        let hello = tokio::time::timeout(HELLO_LIMIT, hello(&mut frames))
            .await
            .map_err(|_| io::ErrorKind::TimedOut)??;
        let now = Instant::now();
        let (to, messages) = mpsc::channel(QUEUE);
        let (found, log_ready) = watch::channel(false);
        tokio::spawn(talk(frames, messages, Arc::clone(console), LogWatch::new(readiness, found)));
        Ok(Self {
            id: hello.run,
            pid: hello.pid,
            since: now.checked_sub(Duration::from_millis(hello.uptime_ms)).unwrap_or(now),
            memory_kills: blocking(memory::kills).await,
            holder,
            to,
            checked: Mutex::default(),
            was_ready: AtomicBool::new(false),
            log_ready,
        })
    }

    /// Waits until the server, and all that it started, has ended.
    ///
    /// Dropping the future has no effect on it.
    pub(crate) async fn ended(&self) {
        self.holder.exited().await;
    }

    /// False when the server does not read, or has ended.
    pub(crate) fn input(&self, data: String) -> bool {
        self.to.try_send(ToHolder::Input { data }.into()).is_ok()
    }

    /// The same, answered when the holder has it: from then on this agent may die.
    pub(crate) async fn say(&self, data: String) -> bool {
        let (sent, wait) = oneshot::channel();
        let word = Word { message: ToHolder::Input { data }, sent: Some(sent) };
        self.to.try_send(word).is_ok()
            && tokio::time::timeout(SAY_LIMIT, wait).await.is_ok_and(|sent| sent.is_ok())
    }

    pub(crate) fn resize(&self, cols: u16, rows: u16) {
        // A window that moves sends many sizes; one that does not get through is followed by another.
        let _ = self.to.try_send(ToHolder::Resize { cols, rows }.into());
    }

    pub(crate) async fn signal(&self, signal: StopSignal) {
        // What has ended needs none.
        let _ = self.to.send(ToHolder::Signal { signal }.into()).await;
    }

    pub(crate) async fn kill(&self) {
        let _ = self.to.send(ToHolder::Kill.into()).await;
    }

    /// The holder itself, where it does not obey.
    pub(crate) fn holder_pid(&self) -> i32 {
        self.holder.pid()
    }

    pub(crate) fn was_ready(&self) -> bool {
        self.was_ready.load(Ordering::Relaxed)
    }

    /// True when it was not ready before.
    pub(crate) fn note(&self, outcome: Result<(), String>) -> bool {
        let ready = outcome.is_ok();
        *self.checked.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
        ready && !self.was_ready.swap(true, Ordering::Relaxed)
    }

    /// What the last check said.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let checked = self.checked.lock().unwrap_or_else(PoisonError::into_inner).clone();
        checked.unwrap_or_else(|| Err("the server is starting".to_owned()))
    }
}

/// What a holder wrote of this run, if it came to that.
pub(crate) fn read_record(state: &Path, run: u64) -> Option<Record> {
    let record: Record = serde_json::from_slice(&std::fs::read(record(state)).ok()?).ok()?;
    (record.run == run).then_some(record)
}

type Said = tokio::net::unix::pipe::Receiver;

/// The same program, whatever lies at its path by now, with nothing of the agent's.
fn spawn(order: &Order) -> io::Result<(Process, Said)> {
    use std::io::Write as _;
    use std::os::fd::OwnedFd;

    let mut child = Command::new("/proc/self/exe")
        .arg("hold")
        .env_clear()
        // So that it is found when the container is ended.
        .envs(order.environment.get_key_value(CONTAINER_VARIABLE))
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other)?;
    // A child's number is its own until it is reaped, and only `Process` reaps it.
    let process = Process::open(pid)?;
    let mut stdin = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
    // An order is larger than a pipe only where something is wrong; this is no thread that serves requests.
    stdin.write_all(&serde_json::to_vec(order)?)?;
    let stdout = child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    Ok((process, Said::from_owned_fd(OwnedFd::from(stdout))?))
}

async fn hello(frames: &mut Frames) -> io::Result<Hello> {
    let frame = frames.next().await.ok_or(io::ErrorKind::UnexpectedEof)??;
    match FromHolder::decode(&frame)? {
        FromHolder::Hello(hello) => Ok(hello),
        FromHolder::Output { .. } => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Something for the holder, and who waits until it is there.
struct Word {
    message: ToHolder,
    sent: Option<oneshot::Sender<()>>,
}

impl From<ToHolder> for Word {
    fn from(message: ToHolder) -> Self {
        Self { message, sent: None }
    }
}

/// Takes output and passes messages on, until the holder or the run's last user is gone.
async fn talk(
    frames: Frames,
    mut messages: mpsc::Receiver<Word>,
    console: Arc<Backlog>,
    mut log: LogWatch,
) {
    let (mut sink, mut output) = frames.split();
    let listen = async {
        while let Some(Ok(frame)) = output.next().await {
            if let Ok(FromHolder::Output { at, bytes }) = FromHolder::decode(&frame) {
                console.push(at, &bytes);
                log.see(&bytes);
            }
        }
    };
    let speak = async {
        while let Some(word) = messages.recv().await {
            let Ok(frame) = word.message.encode() else { continue };
            if sink.send(frame).await.is_err() {
                break;
            }
            // Whoever asked may have gone.
            let _ = word.sent.map(|sent| sent.send(()));
        }
        // Output may come after the last word.
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = listen => {}
        () = speak => {}
    }
}
