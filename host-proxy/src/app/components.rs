//! Only the components: what `spin up` would serve.

use std::net::SocketAddr;
use std::sync::Arc;

use http::uri::Scheme;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::listeners::{bind, url};
use super::{COMPONENTS_DRAIN, StartError, load};
use crate::body;
use crate::component_host::{ComponentHost, RequestOrigin};
use crate::config::Config;
use crate::data_dir::{DataDir, Half};
use crate::edge::listener::{self, Bounds};
use crate::secrets::Secrets;

/// Only the components, on a listener of their own: what `spin up` would serve.
pub struct ComponentsApp {
    _data: DataDir,
    host: Arc<ComponentHost>,
    listener: TcpListener,
    address: SocketAddr,
    bounds: Bounds,
}

impl ComponentsApp {
    /// Takes the data folder and the address, and loads the components.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let data = DataDir::open(&config.data_dir, &[Half::Components])?;
        let secrets = Secrets::open(&data)?;
        let (listener, address) = bind(config.listen, "--listen").await?;
        let artifact_url =
            config.artifact_url.clone().unwrap_or_else(|| url(config.artifact_listen));
        let host = load(&config, &data, &secrets, &artifact_url, None).await?;
        let bounds =
            Bounds { connections: config.limits.max_connections, drain: config.limits.drain };
        Ok(Self { _data: data, host, listener, address, bounds })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`.
    pub async fn serve(self, stop: CancellationToken) {
        let host = Arc::clone(&self.host);
        listener::serve(self.listener, self.bounds, stop, move |request, client| {
            let host = Arc::clone(&host);
            let request = request.map(body::received);
            async move { host.handle(request, RequestOrigin { client, scheme: Scheme::HTTP }).await }
        })
        .await;
        let _ = tokio::time::timeout(COMPONENTS_DRAIN, self.host.shutdown()).await;
    }
}
