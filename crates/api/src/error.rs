//! The one error that handlers return, and the one body it becomes.

use std::error::Error as StdError;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use zlh_error_code::Code;

/// A cause of any kind.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a request was not carried out. `code` in the body is contract, `error` is for people.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Malformed or out of range.
    #[error("{message}")]
    Invalid {
        /// Which field, where one is to blame.
        field: Option<&'static str>,
        /// What is wrong with it.
        message: String,
    },
    /// No credential, or one that does not verify.
    #[error("authentication is required")]
    Unauthenticated,
    /// The caller may know that it exists, but may not do this.
    #[error("this is not allowed")]
    Forbidden,
    /// Absent, or not the caller's to know about. One sentence for all kinds of things: a number that cannot be
    /// one, nobody's and somebody else's have the same answer.
    #[error("not found")]
    NotFound,
    /// The right request in the wrong state.
    #[error("{message}")]
    Conflict {
        /// What stands in the way.
        message: String,
    },
    /// Too often. The same request is taken later.
    #[error("too many attempts, try again later")]
    RateLimited {
        /// When.
        retry_after: Duration,
    },
    /// The body is larger than this API takes.
    #[error("the body is too large")]
    TooLarge,
    /// The path exists, the method does not.
    #[error("this method is not allowed here")]
    MethodNotAllowed,
    /// A bug.
    #[error("something went wrong on our side")]
    Internal {
        /// For the log.
        #[source]
        source: BoxError,
    },
    /// Something this depends on is down.
    #[error("this is unavailable for the moment")]
    Unavailable {
        /// For the log.
        #[source]
        source: BoxError,
    },
    /// An agent refused; its status is forwarded (A18).
    #[error("{message}")]
    Agent {
        /// What the agent answered with.
        status: StatusCode,
        /// What was being tried.
        message: String,
        /// The agent's own words.
        details: Value,
    },
}

/// What every refusal looks like.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Error)]
pub struct ErrorBody {
    /// For people.
    pub error: String,
    /// For programs: contract.
    pub code: &'static str,
    /// The field that is to blame.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub field: Option<&'static str>,
    /// The words of whoever refused, where that was not this API.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Object>)]
    pub details: Option<Value>,
}

/// Carried by a 5xx response to the place that logs it.
#[derive(Clone)]
pub(crate) struct Cause(pub(crate) Arc<ApiError>);

impl ApiError {
    /// A field that is malformed or out of range.
    pub fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self::Invalid { field: Some(field), message: message.into() }
    }

    /// The right request in the wrong state.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::Conflict { message: message.into() }
    }

    /// A dependency that is down.
    pub fn unavailable(source: impl Into<BoxError>) -> Self {
        Self::Unavailable { source: source.into() }
    }

    /// A bug.
    pub fn internal(source: impl Into<BoxError>) -> Self {
        Self::Internal { source: source.into() }
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid { .. } => Code::Invalid,
            Self::Unauthenticated => Code::Unauthenticated,
            Self::Forbidden => Code::Forbidden,
            Self::NotFound => Code::NotFound,
            Self::Conflict { .. } => Code::Conflict,
            Self::RateLimited { .. } => Code::RateLimited,
            Self::TooLarge => Code::TooLarge,
            Self::MethodNotAllowed => Code::MethodNotAllowed,
            Self::Internal { .. } => Code::Internal,
            Self::Unavailable { .. } => Code::Unavailable,
            Self::Agent { status, .. } => Code::of(*status),
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Agent { status, .. } => *status,
            _ => self.code().status(),
        }
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (field, details) = match &self {
            Self::Invalid { field, .. } => (*field, None),
            // What is no object is nothing that an agent says.
            Self::Agent { details, .. } => (None, Some(details.clone()).filter(Value::is_object)),
            _ => (None, None),
        };
        let retry_after = match &self {
            Self::RateLimited { retry_after } => Some(retry_after.as_millis().div_ceil(1000)),
            _ if self.status() == StatusCode::SERVICE_UNAVAILABLE => Some(1),
            _ => None,
        };
        let body =
            ErrorBody { error: self.to_string(), code: self.code().as_str(), field, details };
        let mut response = (self.status(), axum::Json(body)).into_response();
        let headers = response.headers_mut();
        if self.status() == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after.and_then(|s| HeaderValue::try_from(s.to_string()).ok()) {
            headers.insert(RETRY_AFTER, seconds);
        }
        if response.status().is_server_error() {
            response.extensions_mut().insert(Cause(Arc::new(self)));
        }
        response
    }
}
