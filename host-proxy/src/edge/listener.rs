//! Accepts connections, speaks HTTP/1.1 on them, and drains them at the end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::body::Body;

/// How long a client may take over a request's head, and a connection may idle between two requests.
/// Browsers reconnect by themselves.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Twice what browsers send for an IDE.
const MAX_HEADERS: usize = 100;
/// Head of a request, and the bound of what is read ahead of a handler.
const MAX_BUFFER_BYTES: usize = 64 << 10;
/// How long a client that connected before a stop has for its first request.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// After a failed accept, mostly for want of file descriptors, which others must give back first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bounds of one listener.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Open connections; further ones wait to be accepted.
    pub connections: usize,
    /// How long requests may take to end after a stop.
    pub drain: Duration,
}

/// Serves until `stop`, then lets requests end within the bound and closes what is left.
pub async fn serve<H, F>(listener: TcpListener, bounds: Bounds, stop: CancellationToken, handler: H)
where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let connections = TaskTracker::new();
    let kill = CancellationToken::new();
    let _kill_when_dropped = kill.clone().drop_guard();
    let room = Arc::new(Semaphore::new(bounds.connections));

    while let Some((stream, client, permit)) = accept(&listener, &room, &stop).await {
        let work = converse(stream, client, handler.clone(), stop.clone());
        let kill = kill.clone();
        connections.spawn(async move {
            tokio::select! {
                () = work => {}
                () = kill.cancelled() => {}
            }
            drop(permit);
        });
    }

    drop(listener);
    connections.close();
    if tokio::time::timeout(bounds.drain, connections.wait()).await.is_err() {
        tracing::warn!("requests that did not end in time were cut off");
    }
}

/// Serves one connection; once `stop` is there, only until the answer that is on its way was sent.
async fn converse<H, F>(stream: TcpStream, client: SocketAddr, handler: H, stop: CancellationToken)
where
    H: Fn(Request<Incoming>, SocketAddr) -> F + Send,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let asked = CancellationToken::new();
    let service = service_fn(|request| {
        asked.cancel();
        let answer = handler(request, client);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            // One that has just connected has a request on its way.
            let first = tokio::time::timeout(FIRST_REQUEST_TIMEOUT, asked.cancelled());
            tokio::select! {
                ended = connection.as_mut() => ended,
                _ = first => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "connection broke");
    }
}

/// The next connection, or none once the listener shall stop.
async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
    stop: &CancellationToken,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    loop {
        let next = async {
            let permit = Arc::clone(room).acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = stop.cancelled() => return None,
            next = next => next,
        };
        match accepted {
            Ok((stream, client)) => {
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(error = &error as &dyn std::error::Error, "connection is gone");
                    continue;
                }
                return Some((stream, client, permit?));
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "cannot accept a connection"
                );
                if tokio::time::timeout(ACCEPT_PAUSE, stop.cancelled()).await.is_ok() {
                    return None;
                }
            }
        }
    }
}
