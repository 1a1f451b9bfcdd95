//! Requests that do not leave the host: to another component (`<id>.spin.internal`), and to the
//! application's own routes (`self.alt`, or a URL without a host).

use std::sync::{Arc, OnceLock, Weak};

use futures::future::BoxFuture;
use http::{Request, Response};

use crate::body::Body;

/// What follows a component's id in the host name of a chained request.
const CHAINED: &str = ".spin.internal";
/// What stands for the application itself, where a host is needed.
const SELF: &str = "self.alt";

/// Whom a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Callee {
    /// A component, whether or not it has a public route.
    Component(String),
    /// Whatever a route of the application leads to.
    Application,
}

impl Callee {
    /// `None` if the request goes to the network.
    pub(super) fn of(host: Option<&str>) -> Option<Self> {
        match host {
            None | Some("" | SELF) => Some(Self::Application),
            Some(host) => component(host).map(Self::Component),
        }
    }
}

/// The component that a host name stands for.
fn component(host: &str) -> Option<String> {
    let host = host.to_ascii_lowercase();
    let id = host.strip_suffix(CHAINED)?;
    (!id.is_empty() && !id.contains('.')).then(|| id.to_owned())
}

/// Whether a host name is one that only components use.
pub(crate) fn is_chained(host: &str) -> bool {
    component(host).is_some()
}

/// Answers requests that do not leave the host.
pub(crate) trait Application: Send + Sync {
    /// `None` if there is no such component.
    fn call(
        self: Arc<Self>,
        callee: Callee,
        request: Request<Body>,
    ) -> BoxFuture<'static, Option<Response<Body>>>;
}

/// Leads from a component back to the application that it is a part of.
#[derive(Clone, Default)]
pub(crate) struct Chain(Arc<OnceLock<Weak<dyn Application>>>);

impl Chain {
    /// Says which application it is; only the first one counts.
    pub(crate) fn connect(&self, application: Weak<dyn Application>) {
        self.0.get_or_init(|| application);
    }

    pub(super) fn application(&self) -> Option<Arc<dyn Application>> {
        self.0.get()?.upgrade()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_for_a_component_for_the_application_or_for_the_network() {
        let component = |id: &str| Some(Callee::Component(id.to_owned()));

        assert_eq!(Callee::of(Some("a-b.spin.internal")), component("a-b"));
        assert_eq!(Callee::of(Some("A.Spin.Internal")), component("a"));
        assert_eq!(Callee::of(Some("self.alt")), Some(Callee::Application));
        assert_eq!(Callee::of(None), Some(Callee::Application));
        for host in ["a.b.spin.internal", ".spin.internal", "spin.internal", "a.spin.internal.x"] {
            assert_eq!(Callee::of(Some(host)), None, "{host}");
        }
    }
}
