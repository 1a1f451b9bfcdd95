//! The one body type that requests and responses carry through the host-proxy.

use std::convert::Infallible;
use std::error::Error as StdError;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};

/// Why a body broke off.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// A streamed body: frames pass through, nothing is collected.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A body that is already whole.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// No body.
pub fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

/// A body that breaks off when it turns out longer than `max_bytes`.
pub fn limited(body: Body, max_bytes: usize) -> Body {
    Limited::new(body, max_bytes).boxed_unsync()
}

/// The body of somebody else's message.
pub fn received(body: hyper::body::Incoming) -> Body {
    body.map_err(Into::into).boxed_unsync()
}

fn never(error: Infallible) -> BoxError {
    match error {}
}
