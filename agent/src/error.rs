//! Every answer that is not a success, with one body.

use std::error::Error;
use std::fmt::Write as _;

use axum::Json;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use zlh_agent_protocol::agent::AgentError;
use zlh_error_code::Code;

/// Why a request was not served. The sentences are for the control plane's operators.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("{0}")]
    Invalid(String),
    #[error("a valid token is needed")]
    Unauthenticated,
    #[error("no such route")]
    NotFound,
    #[error("this route has no such method")]
    MethodNotAllowed,
    #[error("the body is too large")]
    TooLarge,
    #[error("{0}")]
    Missing(String),
    #[error("{0}")]
    TooMuch(String),
    #[error("{0}")]
    Refused(String),
    #[error("{0}")]
    Full(String),
    #[error("{0}")]
    Timeout(String),
    #[error("{0}")]
    Conflict(String),
    #[error("{0}")]
    TooMany(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("{0}")]
    Internal(String),
}

impl ApiError {
    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::Invalid,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::NotFound | Self::Missing(_) => Code::NotFound,
            Self::MethodNotAllowed => Code::MethodNotAllowed,
            Self::TooLarge | Self::TooMuch(_) => Code::TooLarge,
            Self::Refused(_) => Code::Unfit,
            Self::Full(_) => Code::StorageFull,
            Self::Timeout(_) => Code::Timeout,
            Self::Conflict(_) => Code::Conflict,
            Self::TooMany(_) => Code::RateLimited,
            Self::Unavailable(_) => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (status, code) = (self.code().status(), self.code().as_str());
        if status.is_server_error() {
            tracing::warn!(http.status = status.as_u16(), "{self}");
        }
        let body = Json(AgentError { error: self.to_string(), code: code.to_owned() });
        match self {
            Self::TooMany(_) => (status, [(header::RETRY_AFTER, "1")], body).into_response(),
            _ => (status, body).into_response(),
        }
    }
}

/// An error and all its causes in one sentence.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string does not fail.
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}
