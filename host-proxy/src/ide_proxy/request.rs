//! The request as the container sees it.

use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Version};

use super::Refusal;
use crate::body::Body;
use crate::config::PublicScheme;
use crate::edge::{Origin, headers};

/// What a request wants the connection to become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// An answer.
    Plain,
    /// A WebSocket (RFC 6455 section 4.1). Other protocols may be ignored, and are (RFC 9110 section 7.8).
    WebSocket,
}

impl Shape {
    pub(super) fn of(request: &Request<Body>) -> Result<Self, Refusal> {
        let headers = request.headers();
        let upgrades = headers.get_all(CONNECTION).iter().any(|value| {
            value.to_str().is_ok_and(|value| {
                value.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade"))
            })
        });
        let mut protocols = headers.get_all(UPGRADE).iter();
        let websocket = match (protocols.next(), protocols.next()) {
            (Some(protocol), None) => protocol.as_bytes().eq_ignore_ascii_case(b"websocket"),
            _ => false,
        };
        if !(upgrades && websocket) {
            return Ok(Self::Plain);
        }
        let bare = request.method() == Method::GET
            && request.version() == Version::HTTP_11
            && !has_body(headers);
        if bare { Ok(Self::WebSocket) } else { Err(Refusal::Invalid) }
    }
}

/// Puts the request into the shape it travels on in. `Host` and `Origin` stay as the browser sent them:
/// code-server compares the two.
pub(super) fn prepare(
    mut request: Request<Body>,
    shape: Shape,
    path: &str,
    query: Option<&str>,
    origin: &Origin,
    scheme: PublicScheme,
) -> Result<Request<Body>, Refusal> {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let target: PathAndQuery = target.parse().map_err(|_| Refusal::Invalid)?;
    *request.uri_mut() = target.into();
    *request.version_mut() = Version::HTTP_11;

    let headers = request.headers_mut();
    headers::clean_request(headers);
    headers::remove_credentials(headers);
    headers::set_forwarded(headers, origin, scheme.as_str());
    if shape == Shape::WebSocket {
        headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    }
    Ok(request)
}

/// Whether a request announces a body.
pub(super) fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}
