//! Upgrades: a connection of their own to the resolved IDE, switched on its 101 and spliced unparsed.

use std::sync::Arc;
use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use zlh_agent_protocol::internal::{IdeAccess, IdeGrant};

use super::upstream::{HEAD_TIMEOUT, down, received};
use super::{Mount, Refusal, response};
use crate::body::{self, Body};
use crate::reach::{Place, Reach};
use crate::streams::frames::Client;
use crate::streams::registry::{Registry, StreamGuard};

/// One burst of code-server is megabytes; a window's two sockets cost 256 KiB with this.
const BUFFER_BYTES: usize = 64 << 10;

/// How long a browser may take to close its end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Passes an upgrade on. Nothing that the client sends after its request goes to the IDE before the IDE
/// answered 101; any other answer is passed on as an answer.
pub(super) async fn open(
    mut request: Request<Body>,
    (reach, place): (&Reach, &Place),
    access: &IdeAccess,
    streams: &Arc<Registry>,
    mount: Mount,
) -> Result<Response<Body>, Refusal> {
    let grant = IdeGrant {
        vmid: access.vmid,
        instance_id: access.instance_id,
        user_id: access.user_id,
        session_id: access.session_id,
    };
    let guard = streams.open(grant, access.expires_at_ms).ok_or(Refusal::TooManyStreams)?;

    let browser = hyper::upgrade::on(&mut request);
    let stream = reach.connect(place).await.map_err(|error| down(&error))?;
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| down(&error))?;
    streams.spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(error = &error as &dyn std::error::Error, "connection to an IDE broke");
        }
    });
    let request = request.map(|_| body::empty());
    let answer = tokio::time::timeout(HEAD_TIMEOUT, sender.send_request(request)).await;
    let mut answer = answer.map_err(|_| Refusal::IdeDown)?.map_err(|error| down(&error))?;

    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return received(answer, mount);
    }
    let websocket =
        |value: &HeaderValue| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"websocket");
    if !answer.headers().get(UPGRADE).is_some_and(websocket) {
        return Err(Refusal::IdeDown);
    }
    let ide = hyper::upgrade::on(&mut answer);
    streams.spawn_stream(splice(browser, ide, guard));

    let mut switched = Response::new(body::empty());
    *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    *switched.headers_mut() = std::mem::take(answer.headers_mut());
    let headers = switched.headers_mut();
    response::filter(headers, mount);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    Ok(switched)
}

/// Copies both ways until both are done or the stream is closed from here, which the browser is told.
async fn splice(
    browser: hyper::upgrade::OnUpgrade,
    ide: hyper::upgrade::OnUpgrade,
    guard: StreamGuard,
) {
    let Ok((browser, ide)) = tokio::try_join!(browser, ide) else { return };
    let (mut browser, mut ide) = (Client::new(TokioIo::new(browser)), TokioIo::new(ide));
    let copied = copy_bidirectional_with_sizes(&mut browser, &mut ide, BUFFER_BYTES, BUFFER_BYTES);
    let why = tokio::select! {
        biased;
        why = guard.closed() => why,
        ended = copied => {
            if let Err(error) = ended {
                tracing::debug!(error = &error as &dyn std::error::Error, "a stream broke");
            }
            return;
        }
    };
    drop(ide);
    let closed = tokio::time::timeout(CLOSE_TIMEOUT, browser.close(why)).await;
    tracing::debug!(?why, in_time = closed.is_ok(), "a stream was closed");
}

#[cfg(test)]
mod tests;
