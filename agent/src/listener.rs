//! The listener: connections that say nothing are closed, for whoever can reach the port could otherwise
//! open them all.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::clock::pause;

/// How long a connection may be without a whole request head: the control plane asks every few seconds.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// The control plane needs a handful.
const MAX_CONNECTIONS: usize = 256;
/// How long requests that are being answered may take when the agent stops.
const DRAIN_LIMIT: Duration = Duration::from_secs(3);
/// After a failure to accept, such as no free descriptor, that trying again at once would only repeat.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);

/// Serves until `stop` is done, and then answers what was asked.
pub(crate) async fn serve(listener: TcpListener, router: Router, stop: impl Future<Output = ()>) {
    let (connections, drain) = (TaskTracker::new(), CancellationToken::new());
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::pin!(stop);
    loop {
        let slot = Arc::clone(&slots);
        let accepted = async { (slot.acquire_owned().await, listener.accept().await) };
        let (slot, stream) = tokio::select! {
            () = &mut stop => break,
            (slot, accepted) = accepted => match accepted {
                Ok((stream, _)) => (slot, stream),
                Err(error) => {
                    refused(&error).await;
                    continue;
                }
            },
        };
        // Keys that are typed into a console come back at once.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(error = &error as &dyn std::error::Error, "a client is gone");
            continue;
        }
        let connection = converse(stream, router.clone(), drain.clone());
        connections.spawn(async move {
            let _slot = slot;
            connection.await;
        });
    }
    drop(listener);
    drain.cancel();
    connections.close();
    if tokio::time::timeout(DRAIN_LIMIT, connections.wait()).await.is_err() {
        tracing::warn!("some requests were not answered in time");
    }
}

/// Serves one connection; once `drain` is there, only until what was asked is answered.
async fn converse(stream: TcpStream, router: Router, drain: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = drain.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &error as &dyn std::error::Error, "a connection ended badly");
    }
}

async fn refused(error: &io::Error) {
    // A client that went away before it was accepted says nothing about the next one (accept(2)).
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(error = error as &dyn std::error::Error, "cannot accept connections");
        pause(ACCEPT_PAUSE).await;
    }
}
