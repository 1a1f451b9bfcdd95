//! Outbound HTTP: `allowed_outbound_hosts` decides by name before anything is resolved and by address
//! after it; the connection then goes to the very address that was checked. Requests to other components
//! and to the application itself stay in the process. Redirects are the guest's business.

mod allow_list;
mod chain;
mod connect;

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, header};
use http_body_util::BodyExt;
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, Result, WasiBody,
    WasiHttpHooks,
};

pub(crate) use self::allow_list::AllowList;
pub(crate) use self::chain::{Application, Callee, Chain, is_chained};
pub(crate) use self::connect::Connections;
use self::connect::{DEFAULT_TIMEOUT, Target};
use crate::body;

/// Outbound HTTP as one component may use it.
#[derive(Clone)]
pub(crate) struct Outbound {
    pub(crate) component: Arc<str>,
    pub(crate) allowed: Arc<AllowList>,
    pub(crate) connections: Arc<Connections>,
    pub(crate) chain: Chain,
}

impl Outbound {
    async fn send(
        self,
        mut request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>> {
        if let Some(callee) = Callee::of(request.uri().host()) {
            return self.call(callee, request, options).await;
        }
        let target = Target::of(request.uri())?;
        if !self.allowed.may_resolve(&target.scheme, &target.host, target.port) {
            return Err(self.denied(&target.to_string()));
        }
        let addresses = target.resolve(&options).await?;
        let allowed: Vec<_> = addresses
            .into_iter()
            .filter(|a| self.allowed.allows(&target.scheme, &target.host, target.port, a.ip()))
            .collect();
        if allowed.is_empty() {
            return Err(self.denied(&target.to_string()));
        }
        // The guest does not choose `host` apart from the authority that was checked.
        let host =
            HeaderValue::from_str(&target.authority).map_err(|_| Error::HttpRequestUriInvalid)?;
        request.headers_mut().insert(header::HOST, host);
        self.connections.send(target, &allowed, request, options).await
    }

    /// Hands a request to the application, with the same allow-list as one to the network.
    async fn call(
        self,
        callee: Callee,
        request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>> {
        let uri = request.uri();
        let scheme = uri.scheme_str().unwrap_or("https");
        let allowed = match &callee {
            Callee::Application => self.allowed.allows_self(),
            Callee::Component(_) => {
                let port = uri.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
                self.allowed.allows_name(scheme, uri.host().unwrap_or_default(), port)
            }
        };
        if !allowed {
            return Err(self.denied(&uri.to_string()));
        }
        let application = self.chain.application().ok_or(Error::ConnectionTerminated)?;
        let request = request.map(|body| body.map_err(Into::into).boxed_unsync());
        let limit = options.first_byte_timeout.unwrap_or(DEFAULT_TIMEOUT);
        let response = tokio::time::timeout(limit, application.call(callee, request))
            .await
            .map_err(|_| Error::ConnectionReadTimeout)?
            .ok_or(Error::DestinationNotFound)?;
        Ok(response.map(|body| {
            let broken = |error: body::BoxError| {
                tracing::debug!(error = %error, "a chained response broke off");
                Error::ConnectionTerminated
            };
            body.map_err(broken).boxed_unsync()
        }))
    }

    fn denied(&self, target: &str) -> Error {
        tracing::warn!(
            component.id = %self.component,
            "outbound request to {target} denied: not in `allowed_outbound_hosts`"
        );
        Error::HttpRequestDenied
    }
}

type IoResult = BoxFuture<'static, Result<()>>;

impl WasiHttpHooks for Outbound {
    /// As the default, but a guest sees `host`, as it does on Spin.
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(|name: &HeaderName| {
            name != header::HOST && DEFAULT_FORBIDDEN_HEADERS.contains(name)
        })
    }

    /// `send` sets it.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _processed: Box<dyn Future<Output = Result<()>> + Send>,
    ) -> Box<
        dyn Future<
                Output = Result<(Response<WasiBody>, Box<dyn Future<Output = Result<()>> + Send>)>,
            > + Send,
    > {
        let sent = self.clone().send(request, options.unwrap_or_default());
        Box::new(async move {
            let response = sent.await?;
            // The connection is driven by a task of its own, so there is nothing left to wait for.
            let io: IoResult = Box::pin(std::future::ready(Ok(())));
            Ok((response, Box::new(io) as Box<dyn Future<Output = Result<()>> + Send>))
        })
    }
}
