//! The agent as it runs: its API on a port of its own, its program killed at bad moments.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of a test binary"
)]

mod api;
mod console;
mod container;
mod files;
mod game;
mod lifecycle;
mod store;
