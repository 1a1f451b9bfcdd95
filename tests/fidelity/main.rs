//! What Spin does with a manifest and its components, the embedded host does; what it does more, it does to
//! contain them. The rows of docs/spin-fidelity.md name these tests.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics and says why"
)]

mod chaining;
mod composition;
mod containment;
mod grants;
mod guests;
mod routing;
mod runtime_config;
