//! Opens browsers' way to one container's IDE: credential in, bytes through, nothing of ours to the
//! container and nothing of the container's beyond its own origin.

use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use http::header::{CACHE_CONTROL, LOCATION, REFERRER_POLICY, SET_COOKIE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use zlh_agent_protocol::internal::{
    CheckIde, IdeAccess, IdeCredential, OpenIde, OpenedIde, RevalidateIde, RevalidatedIde,
};
use zlh_ids::Vmid;

use crate::api::{CallError, InternalApi};
use crate::body::{self, Body};
use crate::config::PublicScheme;
use crate::edge::Origin;
use crate::reach::{Place, Reach, Service};
use crate::streams::registry::Registry;

mod access;
pub mod bootstrap;
mod credential;
pub mod host;
mod mount;
mod origin;
mod refusal;
mod request;
mod response;
mod upstream;
mod websocket;

use access::Accesses;
use credential::{Credential, Shown};
pub use mount::Mount;
pub(crate) use refusal::Refusal;
use request::Shape;
use upstream::Upstream;

/// Who decides about IDEs: the component `tokens`.
#[async_trait]
pub trait IdeAuthority: Send + Sync + 'static {
    /// Exchanges a token, once.
    async fn open(&self, call: &OpenIde) -> Result<OpenedIde, CallError>;
    /// Whether a credential holds now.
    async fn check(&self, call: &CheckIde) -> Result<IdeAccess, CallError>;
    /// Which open streams must be closed.
    async fn revalidate(&self, call: &RevalidateIde) -> Result<RevalidatedIde, CallError>;
}

#[async_trait]
impl IdeAuthority for InternalApi {
    async fn open(&self, call: &OpenIde) -> Result<OpenedIde, CallError> {
        self.post("/internal/ide/open", call).await
    }

    async fn check(&self, call: &CheckIde) -> Result<IdeAccess, CallError> {
        self.post("/internal/ide/check", call).await
    }

    async fn revalidate(&self, call: &RevalidateIde) -> Result<RevalidatedIde, CallError> {
        self.post("/internal/ide/revalidate", call).await
    }
}

/// How browsers see us.
#[derive(Debug, Clone)]
pub struct PublicFace {
    /// Scheme of hosted IDEs, and of tunnelled ones without a URL of their own.
    pub scheme: PublicScheme,
    /// Where the tunnel listener is, if that was set.
    pub tunnel_url: Option<String>,
    /// Where the tunnel listener is bound, unless it is off.
    pub tunnel_address: Option<SocketAddr>,
}

/// The proxy of every IDE.
pub struct IdeProxy {
    accesses: Accesses,
    upstream: Upstream,
    streams: Arc<Registry>,
    face: PublicFace,
}

impl IdeProxy {
    /// A proxy that asks `authority`, goes the way that `reach` knows, and notes its streams in `streams`.
    #[must_use]
    pub fn new(
        authority: Arc<dyn IdeAuthority>,
        reach: Arc<Reach>,
        streams: Arc<Registry>,
        face: PublicFace,
    ) -> Self {
        let (accesses, upstream) = (Accesses::new(authority), Upstream::new(reach));
        Self { accesses, upstream, streams, face }
    }

    /// Answers one request to an IDE.
    pub async fn handle(
        &self,
        mount: Mount,
        request: Request<Body>,
        origin: &Origin,
    ) -> Response<Body> {
        let wants_page = refusal::wants_page(&request);
        match self.try_handle(mount, request, origin).await {
            Ok(response) => response,
            Err(refusal) => refusal.answer(wants_page),
        }
    }

    async fn try_handle(
        &self,
        mount: Mount,
        request: Request<Body>,
        origin: &Origin,
    ) -> Result<Response<Body>, Refusal> {
        let path = mount.upstream_path(request.uri().path()).ok_or(Refusal::NotFound)?.to_owned();
        if path.is_empty() {
            return add_slash(request.uri());
        }
        let shape = Shape::of(&request)?;
        let scheme = self.scheme(mount);
        let credential = Credential::of(&request, mount.cookie_name(scheme))?;
        origin::check(&request, shape, &credential.shown, scheme, origin.authority.as_str())?;

        let access = match credential.shown {
            Shown::Nothing => return Err(Refusal::Unauthenticated),
            Shown::Link(token) if shape == Shape::WebSocket => {
                self.accesses.open(mount.vmid(), token).await?.access
            }
            Shown::Link(token) if matches!(*request.method(), Method::GET | Method::HEAD) => {
                let opened = self.accesses.open(mount.vmid(), token).await?;
                return exchange(
                    mount,
                    scheme,
                    request.uri(),
                    credential.query.as_deref(),
                    &opened,
                );
            }
            Shown::Link(token) | Shown::Bearer(token) => {
                self.accesses.check(mount.vmid(), IdeCredential::Token(token)).await?
            }
            Shown::Cookies(sessions) => self.accesses.check_any(mount.vmid(), sessions).await?,
        };

        let place = place(&access);
        let request =
            request::prepare(request, shape, &path, credential.query.as_deref(), origin, scheme)?;
        match shape {
            Shape::Plain => self.upstream.send(&place, request, mount).await,
            Shape::WebSocket => {
                let way = (&*self.upstream.reach, &place);
                websocket::open(request, way, &access, &self.streams, mount).await
            }
        }
    }

    /// Sends a browser that followed a tunnel link on to the tunnel listener.
    pub async fn bootstrap(
        &self,
        vmid: Vmid,
        request: &Request<()>,
        origin: &Origin,
    ) -> Response<Body> {
        let answer = bootstrap::redirect(&self.accesses, &self.face, vmid, request, origin).await;
        answer.unwrap_or_else(|refusal| refusal.answer(refusal::wants_page(request)))
    }

    fn scheme(&self, mount: Mount) -> PublicScheme {
        match (mount, &self.face.tunnel_url) {
            (Mount::Tunnel(_), Some(url)) if url.starts_with("https:") => PublicScheme::Https,
            (Mount::Tunnel(_), Some(_)) => PublicScheme::Http,
            _ => self.face.scheme,
        }
    }
}

fn place(access: &IdeAccess) -> Place {
    Place {
        vmid: access.vmid,
        instance: access.instance_id,
        service: Service::Ide,
        address: access.ide_address.clone(),
        machine: access.machine.clone(),
    }
}

/// Swaps a token in a URL for a cookie and the same URL without it.
fn exchange(
    mount: Mount,
    scheme: PublicScheme,
    uri: &Uri,
    query: Option<&str>,
    opened: &OpenedIde,
) -> Result<Response<Body>, Refusal> {
    // Browsers read `//host` and `/\host` as another host.
    if uri.path().get(1..2).is_some_and(|second| matches!(second, "/" | "\\")) {
        return Err(Refusal::NotFound);
    }
    let location = match query {
        Some(query) => format!("{}?{query}", uri.path()),
        None => uri.path().to_owned(),
    };
    let cookie = mount.set_cookie(scheme, &opened.session, opened.max_age_seconds);
    let mut response = redirect(StatusCode::SEE_OTHER, &location)?;
    let cookie = HeaderValue::from_str(&cookie).map_err(|_| Refusal::Broken("session"))?;
    response.headers_mut().insert(SET_COOKIE, cookie);
    Ok(response)
}

/// code-server's links are relative, so that an entry without a final slash would lose its last segment.
fn add_slash(uri: &Uri) -> Result<Response<Body>, Refusal> {
    let location = match uri.query() {
        Some(query) => format!("{}/?{query}", uri.path()),
        None => format!("{}/", uri.path()),
    };
    redirect(StatusCode::TEMPORARY_REDIRECT, &location)
}

/// A redirect that leaves no trace of where it came from.
fn redirect(status: StatusCode, location: &str) -> Result<Response<Body>, Refusal> {
    let mut response = Response::new(body::empty());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(LOCATION, HeaderValue::from_str(location).map_err(|_| Refusal::Invalid)?);
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
