//! The components, wherever they run: embedded here, or behind a URL.

use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::Scheme;
use http::{Request, Response};

use crate::body::Body;
use crate::component_host::{ComponentHost, RequestOrigin};

pub mod internal;
mod remote;

pub use internal::{CallError, InternalApi};
pub use remote::{RemoteApi, RemoteError};

/// The components.
#[derive(Clone)]
pub enum ComponentApi {
    /// In this process.
    Embedded(Arc<ComponentHost>),
    /// At a URL.
    Remote(Box<RemoteApi>),
}

impl ComponentApi {
    /// Passes a request on. Headers must have been cleaned already.
    ///
    /// # Errors
    ///
    /// A remote host did not answer; the embedded one always does.
    pub async fn call(
        &self,
        request: Request<Body>,
        client: SocketAddr,
    ) -> Result<Response<Body>, RemoteError> {
        match self {
            Self::Embedded(host) => {
                Ok(host.handle(request, RequestOrigin { client, scheme: Scheme::HTTP }).await)
            }
            Self::Remote(remote) => remote.call(request).await,
        }
    }

    /// Ends what the components do.
    pub async fn shutdown(&self) {
        if let Self::Embedded(host) = self {
            host.shutdown().await;
        }
    }
}
