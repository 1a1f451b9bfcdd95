//! Why a request did not reach an IDE, as clients are told.

use http::header::ACCEPT;
use http::{Method, Request, Response};

use crate::answer::{self, Code};
use crate::body::Body;

/// Seconds after which a page tries again.
const RETRY_SECONDS: u32 = 2;

/// Why a request did not reach an IDE. Nobody is told more than this.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// No credential that holds; never which of the reasons.
    Unauthenticated,
    /// No such container, or another's.
    NotFound,
    /// From a page of another origin.
    WrongOrigin,
    /// Malformed.
    Invalid,
    /// The path knows other methods.
    MethodNotAllowed,
    /// The container has as many streams as it may.
    TooManyStreams,
    /// The IDE does not answer.
    IdeDown,
    /// The components do not answer.
    ComponentsDown,
    /// Something is not as we made it.
    Broken(&'static str),
}

impl Refusal {
    /// The answer: a page for a person's navigation, the envelope for everything else.
    pub(super) fn answer(self, page: bool) -> Response<Body> {
        let (code, title, text, retry) = match self {
            Self::Unauthenticated => {
                (Code::Unauthenticated, "This IDE link is not valid", "not authenticated", None)
            }
            Self::NotFound => (Code::NotFound, "Not found", "not found", None),
            Self::WrongOrigin => {
                (Code::Forbidden, "Not allowed", "this origin is not allowed", None)
            }
            Self::Invalid => (Code::Invalid, "Bad request", "the request is malformed", None),
            Self::MethodNotAllowed => {
                (Code::MethodNotAllowed, "Bad request", "this method is not served here", None)
            }
            Self::TooManyStreams => (
                Code::RateLimited,
                "Too many windows",
                "too many open connections to this IDE",
                None,
            ),
            Self::IdeDown => (
                Code::Unavailable,
                "The IDE is not running yet",
                "the IDE does not answer",
                Some(RETRY_SECONDS),
            ),
            Self::ComponentsDown => (
                Code::Unavailable,
                "One moment, please",
                "the service is not available at the moment",
                Some(RETRY_SECONDS),
            ),
            Self::Broken(what) => {
                tracing::error!(what, "an IDE request met something that must not be");
                (Code::Internal, "Something went wrong", "internal error", None)
            }
        };
        if !page {
            return answer::error(code, text);
        }
        answer::page(code, title, self.advice(), retry)
    }

    fn advice(self) -> &'static str {
        match self {
            Self::Unauthenticated => {
                "It may have been used already, or it is too old. Open the IDE again from the portal."
            }
            Self::NotFound => "There is nothing at this address.",
            Self::TooManyStreams => "Close other windows of this IDE and try again.",
            Self::IdeDown => {
                "The container or its IDE does not answer at the moment. This page tries again by itself."
            }
            Self::ComponentsDown => {
                "The service does not answer at the moment. This page tries again by itself."
            }
            Self::WrongOrigin | Self::Invalid | Self::MethodNotAllowed | Self::Broken(_) => {
                "The request could not be served."
            }
        }
    }
}

/// Whether a person looks at the answer.
pub(super) fn wants_page<B>(request: &Request<B>) -> bool {
    let accepts = request.headers().get_all(ACCEPT).iter().any(|value| {
        value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("text/html"))
    });
    request.method() == Method::GET && accepts
}
