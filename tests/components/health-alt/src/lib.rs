//! A second `platform`: what tests swap for the first.
//!
//! It is the first in all but `/api/health`, because a system whose `platform` is gone does not go on. It
//! takes its modules as they are and not its package, whose exports would be defined twice.

#![cfg(target_family = "wasm")]

/// The first.
#[path = "../../../../components/platform/src"]
pub mod platform {
    pub mod model;
    pub mod routes;
    pub(crate) mod store;
}
// Under the names by which they call each other.
use platform::store;
pub use platform::{model, routes};

mod entry;
