//! Connections to containers of this machine, for another: spliced, not looked at.

use std::sync::Arc;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;
use zlh_agent_protocol::internal::AgentRoute;

use super::{Gateway, Refusal};
use crate::answer::Code;
use crate::body::{self, Body, BoxError};
use crate::reach::{self, PROTOCOL, Service};

/// As for the IDE's own streams.
const BUFFER_BYTES: usize = 64 << 10;

impl Gateway {
    pub(super) async fn tunnel(
        &self,
        route: &AgentRoute,
        service: Service,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, Refusal> {
        let asked = request.headers().get(UPGRADE);
        if request.method() != http::Method::GET || asked.is_none_or(|asked| asked != PROTOCOL) {
            return Err((Code::Invalid, "this becomes a tunnel, or nothing"));
        }
        // Or it would go on to where it came from.
        if self.reach.gateway(&route.machine).is_some() {
            return Err((Code::NotFound, "the container is not on this machine"));
        }
        let address = match service {
            Service::Agent => Some(route.agent_address.as_str()),
            Service::Ide => route.ide_address.as_deref(),
        };
        let address = address.ok_or((Code::NotFound, "the container has no IDE"))?;
        let room = Arc::clone(&self.room).try_acquire_owned();
        let room = room.map_err(|_| (Code::Unavailable, "there are too many tunnels"))?;
        let mut container = reach::connect_here(address).await.map_err(|error| {
            tracing::debug!(vmid = %route.vmid, %error, "nobody listens in a container");
            (Code::Unavailable, "nobody listens in the container")
        })?;

        let asker = hyper::upgrade::on(&mut request);
        self.streams.spawn(async move {
            let work = async {
                let mut asker = TokioIo::new(asker.await?);
                copy_bidirectional_with_sizes(
                    &mut asker,
                    &mut container,
                    BUFFER_BYTES,
                    BUFFER_BYTES,
                )
                .await?;
                Ok::<(), BoxError>(())
            };
            if let Err(error) = work.await {
                tracing::debug!(error = &*error as &dyn std::error::Error, "a tunnel broke");
            }
            drop(room);
        });
        let mut switched = Response::new(body::empty());
        *switched.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = switched.headers_mut();
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static(PROTOCOL));
        Ok(switched)
    }
}
