//! What every HTTP handler shares: one error type, extractors that answer with it, and the last layer.

mod error;
mod extract;
mod finish;

pub use error::{ApiError, BoxError};
pub use extract::{Json, Path};
pub use finish::{Settings, finish};
