//! Only the components: what `spin up` would serve.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use http::uri::Scheme;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::listeners::{ADMIN, PUBLIC, bind, inherited, keep};
use super::{COMPONENTS_DRAIN, StartError, component_admin, load};
use crate::admin::Admin;
use crate::api::{ComponentApi, InternalApi};
use crate::body;
use crate::component_host::{ComponentHost, RequestOrigin};
use crate::config::Config;
use crate::data_dir::{DataDir, Half};
use crate::edge::listener::{self, Bounds};
use crate::hand_over::Named;
use crate::metrics::Metrics;
use crate::secrets::Secrets;
use crate::shutdown::Shutdown;
use crate::streams::registry::Registry;
use crate::variables::Surroundings;

/// Only the components, on a listener of their own: what `spin up` would serve.
pub struct ComponentsApp {
    _data: DataDir,
    host: Arc<ComponentHost>,
    listener: TcpListener,
    address: SocketAddr,
    admin: Option<(TcpListener, Admin)>,
    metrics: Arc<Metrics>,
    bounds: Bounds,
    kept: Named,
}

impl ComponentsApp {
    /// Takes the data folder and the addresses, and loads the components.
    ///
    /// # Errors
    ///
    /// A sentence about what is wrong.
    pub async fn bind(config: Config) -> Result<Self, StartError> {
        let data = DataDir::open(&config.data_dir, &[Half::Components])?;
        let secrets = Secrets::open(&data)?;
        let mut inherited = inherited()?;
        let mut kept = Named::new();
        let (listener, address) = bind(&mut inherited, PUBLIC, config.listen).await?;
        let listener = keep(&mut kept, PUBLIC, listener).map_err(StartError::Inherited)?;
        let private = match config.components_admin_listen {
            Some(address) => {
                let (listener, address) = bind(&mut inherited, ADMIN, address).await?;
                let listener = keep(&mut kept, ADMIN, listener).map_err(StartError::Inherited)?;
                Some((listener, address))
            }
            None => None,
        };
        let surroundings = Surroundings::configured(&config, None);
        let host = load(&config, &data, &secrets, &surroundings).await?;
        host.prune().await;
        let api = ComponentApi::Embedded(Arc::clone(&host));
        let metrics = Arc::new(Metrics::of(&api));
        let admin = match private {
            Some((listener, address)) => {
                data.note_admin(address)?;
                let internal =
                    InternalApi::new(api.clone(), secrets.internal_keys()?, &data.host_id()?);
                let admin = Admin {
                    components: component_admin(&api, &internal, &secrets),
                    api: internal,
                    metrics: Arc::clone(&metrics),
                    streams: Registry::new(config.limits.max_ide_streams),
                    leaving: CancellationToken::new(),
                };
                Some((listener, admin))
            }
            None => None,
        };
        let bounds =
            Bounds { connections: config.limits.max_connections, drain: config.limits.drain };
        Ok(Self { _data: data, host, listener, address, admin, metrics, bounds, kept })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until the stop. Returns the listeners if another process goes on with them.
    pub async fn serve(self, shutdown: Shutdown) -> Option<Named> {
        let stop = shutdown.stop.clone();
        let kept = self.kept;
        let (host, metrics) = (Arc::clone(&self.host), self.metrics);
        let public =
            listener::serve(self.listener, self.bounds, stop.clone(), move |request, client| {
                let (host, metrics) = (Arc::clone(&host), Arc::clone(&metrics));
                let request = request.map(body::received);
                async move {
                    let origin = RequestOrigin { client, scheme: Scheme::HTTP };
                    let started = Instant::now();
                    let response = host.handle(request, origin).await;
                    metrics.answered(response.status(), started.elapsed());
                    response
                }
            });
        let private = async {
            if let Some((listener, mut admin)) = self.admin {
                admin.leaving = shutdown.leaving.clone();
                listener::serve(listener, self.bounds, stop, move |request, _| {
                    let admin = admin.clone();
                    async move { admin.handle(request).await }
                })
                .await;
            }
        };
        let kept = async {
            shutdown.stop.cancelled().await;
            shutdown.is_replaced().then_some(kept)
        };
        let (kept, ..) = tokio::join!(kept, public, private);
        let _ = tokio::time::timeout(COMPONENTS_DRAIN, self.host.shutdown()).await;
        kept.filter(|_| shutdown.is_replaced())
    }
}
