//! Starts the real system for tests, and speaks to it as its clients do. Nothing in it is a fake: the
//! programs, code-server and the browser are those that people use.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics and says why"
)]

pub mod api;
pub mod app;
pub mod browser;
mod calls;
pub mod components;
pub mod config;
pub mod databases;
pub mod forge;
pub mod host;
pub mod http;
pub mod load;
pub mod ports;
pub mod processes;
pub mod stack;
pub mod stub;
mod wait;

pub use api::{Api, Session};
pub use stack::{Stack, StackOptions};
pub use wait::eventually;
