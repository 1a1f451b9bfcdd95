//! Outbound HTTP: `allowed_outbound_hosts` decides by name before anything is resolved and by address
//! after it; the connection then goes to the very address that was checked. Redirects are the guest's
//! business.

mod allow_list;
mod connect;

use std::sync::Arc;

use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Request, Response, header};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, ForbiddenHeaderFilter, RequestOptions, Result, WasiBody,
    WasiHttpHooks,
};

pub(crate) use self::allow_list::AllowList;
pub(crate) use self::connect::Connections;
use self::connect::Target;

/// Outbound HTTP as one component may use it.
#[derive(Clone)]
pub(crate) struct Outbound {
    pub(crate) component: Arc<str>,
    pub(crate) allowed: Arc<AllowList>,
    pub(crate) connections: Arc<Connections>,
}

impl Outbound {
    async fn send(
        self,
        mut request: Request<WasiBody>,
        options: RequestOptions,
    ) -> Result<Response<WasiBody>> {
        let target = Target::of(request.uri())?;
        if !self.allowed.may_resolve(&target.scheme, &target.host, target.port) {
            return Err(self.denied(&target));
        }
        let addresses = target.resolve(&options).await?;
        let allowed: Vec<_> = addresses
            .into_iter()
            .filter(|a| self.allowed.allows(&target.scheme, &target.host, target.port, a.ip()))
            .collect();
        if allowed.is_empty() {
            return Err(self.denied(&target));
        }
        // The guest does not choose `host` apart from the authority that was checked.
        let host =
            HeaderValue::from_str(&target.authority).map_err(|_| Error::HttpRequestUriInvalid)?;
        request.headers_mut().insert(header::HOST, host);
        self.connections.send(target, &allowed, request, options).await
    }

    fn denied(&self, target: &Target) -> Error {
        tracing::warn!(
            component.id = %self.component,
            "outbound request to {}://{}:{} denied: not in `allowed_outbound_hosts`",
            target.scheme, target.host, target.port
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
