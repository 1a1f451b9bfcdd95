//! The `code` of the error envelope, which is contract, and the HTTP status that goes with each. Components,
//! host-proxy and agent answer from this one table; docs/http-api.md shows it to clients.

use http::StatusCode;

/// What went wrong, as a program can tell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Code {
    /// Malformed or out of range.
    Invalid,
    /// No credential that verifies.
    Unauthenticated,
    /// May know that it exists, may not do this.
    Forbidden,
    /// Absent, or not the caller's to know about.
    NotFound,
    /// The path knows other methods.
    MethodNotAllowed,
    /// The right request in the wrong state.
    Conflict,
    /// Body over the limit.
    TooLarge,
    /// Understood, and not fit for its purpose.
    Unfit,
    /// Header section over the limit.
    HeadersTooLarge,
    /// Too much at once; trying again later helps.
    RateLimited,
    /// A bug.
    Internal,
    /// A dependency is down; trying again may help.
    Unavailable,
    /// It took longer than a request may.
    Timeout,
    /// The disk that it would go to is full.
    StorageFull,
}

impl Code {
    /// The word in the envelope.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::Conflict => "conflict",
            Self::TooLarge => "too_large",
            Self::Unfit => "refused",
            Self::HeadersTooLarge => "headers_too_large",
            Self::RateLimited => "rate_limited",
            Self::Internal => "internal",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timeout",
            Self::StorageFull => "storage_full",
        }
    }

    /// The status of an answer with this code.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::Invalid => StatusCode::BAD_REQUEST,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Unfit => StatusCode::UNPROCESSABLE_ENTITY,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
            Self::StorageFull => StatusCode::INSUFFICIENT_STORAGE,
        }
    }

    /// The code for an error's status that somebody else chose. What is not in the table is `invalid` below
    /// 500; above, `internal` says that nothing but a repair helps, and everything else may pass.
    #[must_use]
    pub fn of(status: StatusCode) -> Self {
        let all = [
            Self::Unauthenticated,
            Self::Forbidden,
            Self::NotFound,
            Self::MethodNotAllowed,
            Self::Conflict,
            Self::TooLarge,
            Self::Unfit,
            Self::HeadersTooLarge,
            Self::RateLimited,
            Self::Internal,
            Self::Timeout,
            Self::StorageFull,
        ];
        match all.into_iter().find(|code| code.status() == status) {
            Some(code) => code,
            None if status.is_server_error() => Self::Unavailable,
            None => Self::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_that_of_its_status() {
        let all = [
            (Code::Invalid, 400, "invalid"),
            (Code::Unauthenticated, 401, "unauthenticated"),
            (Code::Forbidden, 403, "forbidden"),
            (Code::NotFound, 404, "not_found"),
            (Code::MethodNotAllowed, 405, "method_not_allowed"),
            (Code::Conflict, 409, "conflict"),
            (Code::TooLarge, 413, "too_large"),
            (Code::Unfit, 422, "refused"),
            (Code::RateLimited, 429, "rate_limited"),
            (Code::HeadersTooLarge, 431, "headers_too_large"),
            (Code::Internal, 500, "internal"),
            (Code::Unavailable, 503, "unavailable"),
            (Code::Timeout, 504, "timeout"),
            (Code::StorageFull, 507, "storage_full"),
        ];
        for (code, status, word) in all {
            assert_eq!((code.status().as_u16(), code.as_str()), (status, word));
            assert_eq!(Code::of(code.status()), code);
        }
    }

    #[test]
    fn other_statuses_say_whether_trying_again_may_help() {
        let of = |status| Code::of(StatusCode::from_u16(status).unwrap());

        assert_eq!([of(414), of(418), of(502)], [Code::Invalid, Code::Invalid, Code::Unavailable]);
    }
}
