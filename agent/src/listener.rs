//! The listener: connections that say nothing are closed, for whoever can reach the port could otherwise
//! open them all.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

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
    let connections = GracefulShutdown::new();
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
        let connection = connections.watch(connection(stream, router.clone()));
        // Ends with its client, its time, or the runtime.
        tokio::spawn(async move {
            let _slot = slot;
            if let Err(error) = connection.await {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a connection ended badly"
                );
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_LIMIT, connections.shutdown()).await.is_err() {
        tracing::warn!("some requests were not answered in time");
    }
}

fn connection(
    stream: TcpStream,
    router: Router,
) -> http1::Connection<TokioIo<TcpStream>, TowerToHyperService<Router>> {
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
}

async fn refused(error: &io::Error) {
    // A client that went away before it was accepted says nothing about the next one (accept(2)).
    if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        tracing::warn!(error = error as &dyn std::error::Error, "cannot accept connections");
        pause(ACCEPT_PAUSE).await;
    }
}
