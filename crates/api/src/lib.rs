//! What every HTTP handler shares: one error type, extractors that answer with it, and the last layer.

mod client;
mod error;
mod extract;
mod finish;
mod openapi;

pub use client::Client;
pub use error::{ApiError, BoxError, ErrorBody};
pub use extract::{Json, Path, Query};
pub use finish::{Settings, X_REQUEST_ID, finish, request_id};
pub use openapi::{
    Conflict, Failure, Forbidden, Invalid, NotFound, RateLimited, TooLarge, Unauthenticated,
    method, path,
};

#[doc(hidden)]
pub use pastey;
