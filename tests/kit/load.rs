//! A steady load of requests on kept-alive connections, and what became of each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ::http::header::{AUTHORIZATION, HOST};
use ::http::{HeaderValue, Request, StatusCode};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// Longest wait for one answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Requests that wait for each other on one connection would hide how long each took.
const PER_CONNECTION: u32 = 20;

/// A request that is made again and again; it must be answered 200.
#[derive(Debug, Clone)]
pub struct Call {
    /// Path.
    pub path: String,
    /// Access token.
    pub token: Option<String>,
}

/// What became of all requests.
#[derive(Debug, Default)]
pub struct Tally {
    /// How long each took that was answered 200, ascending.
    pub took: Vec<Duration>,
    /// What happened to the others.
    pub failed: Vec<String>,
    /// How long it went on.
    pub elapsed: Duration,
}

impl Tally {
    /// Requests that were answered 200, per second.
    #[must_use]
    pub fn rate(&self) -> f64 {
        self.took.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The time that this share of requests did not exceed.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Duration {
        let last = self.took.len().saturating_sub(1) as f64;
        self.took.get((last * share) as usize).copied().unwrap_or_default()
    }
}

/// A load that goes on until it is ended.
pub struct Load {
    started: Instant,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Tally>>,
}

impl Load {
    /// Makes so many requests a second, the calls in turn, whether or not earlier ones were answered in
    /// time.
    #[must_use]
    pub fn start(to: SocketAddr, per_second: u32, calls: &[Call]) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let connections = per_second.div_ceil(PER_CONNECTION);
        let period = Duration::from_secs(1) * connections / per_second;
        let workers = (0..connections).map(|worker| {
            let (stop, calls) = (Arc::clone(&stop), calls.to_vec());
            let begin = period * worker / connections;
            tokio::spawn(work(to, begin, period, calls, stop))
        });
        Self { started: Instant::now(), workers: workers.collect(), stop }
    }

    /// Ends it, once every request has its answer.
    pub async fn end(self) -> Tally {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Tally { elapsed: self.started.elapsed(), ..Tally::default() };
        for worker in self.workers {
            let tally = worker.await.expect("a worker does not panic");
            all.took.extend(tally.took);
            all.failed.extend(tally.failed);
        }
        all.took.sort_unstable();
        all
    }
}

async fn work(
    to: SocketAddr,
    begin: Duration,
    period: Duration,
    calls: Vec<Call>,
    stop: Arc<AtomicBool>,
) -> Tally {
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + begin, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut tally = Tally::default();
    let mut connection = None;
    for call in calls.iter().cycle() {
        ticks.tick().await;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let started = Instant::now();
        match tokio::time::timeout(LIMIT, ask(to, &mut connection, call)).await {
            Ok(Ok(StatusCode::OK)) => tally.took.push(started.elapsed()),
            Ok(Ok(status)) => tally.failed.push(format!("{} answered {status}", call.path)),
            Ok(Err(error)) => {
                tally.failed.push(format!("{}: {error}", call.path));
                connection = None;
            }
            Err(_) => {
                tally.failed.push(format!("{}: no answer within {LIMIT:?}", call.path));
                connection = None;
            }
        }
    }
    tally
}

async fn ask(
    to: SocketAddr,
    connection: &mut Option<SendRequest<Full<Bytes>>>,
    call: &Call,
) -> Result<StatusCode, hyper::Error> {
    let sender = match connection {
        Some(sender) => sender,
        None => connection.insert(connect(to).await?),
    };
    let mut request = Request::get(&call.path).body(Full::default()).expect("a request");
    let headers = request.headers_mut();
    headers.insert(HOST, HeaderValue::try_from(to.to_string()).expect("a header value"));
    if let Some(token) = &call.token {
        let bearer = HeaderValue::try_from(format!("Bearer {token}")).expect("a header value");
        headers.insert(AUTHORIZATION, bearer);
    }
    sender.ready().await?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    response.into_body().collect().await?;
    Ok(status)
}

async fn connect(to: SocketAddr) -> Result<SendRequest<Full<Bytes>>, hyper::Error> {
    let stream = TcpStream::connect(to).await.expect("zlh accepts connections");
    stream.set_nodelay(true).expect("a connection");
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    Ok(sender)
}
