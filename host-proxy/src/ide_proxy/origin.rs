//! Which pages may speak to an IDE with the browser's cookie (RFC 6455 section 10.2).

use http::header::ORIGIN;
use http::{Method, Request};

use super::Refusal;
use super::credential::Shown;
use super::host::browser_origin;
use super::request::Shape;
use crate::body::Body;
use crate::config::PublicScheme;

/// An upgrade and a cookie's unsafe request must come from the IDE's own origin. A client without an
/// `Origin` is no page; it may upgrade when it shows a token that no browser adds by itself.
pub(super) fn check(
    request: &Request<Body>,
    shape: Shape,
    shown: &Shown,
    scheme: PublicScheme,
    host: &str,
) -> Result<(), Refusal> {
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let matters = shape == Shape::WebSocket || (!safe && matches!(shown, Shown::Cookies(_)));
    if !matters {
        return Ok(());
    }
    let mut origins = request.headers().get_all(ORIGIN).iter();
    let allowed = match (origins.next(), origins.next()) {
        (Some(origin), None) => {
            origin.as_bytes().eq_ignore_ascii_case(browser_origin(scheme, host).as_bytes())
        }
        (None, _) => shape == Shape::Plain || matches!(shown, Shown::Bearer(_)),
        (Some(_), Some(_)) => false,
    };
    if allowed { Ok(()) } else { Err(Refusal::WrongOrigin) }
}
