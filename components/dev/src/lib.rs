//! Starts, stops and restarts code-server in a dev container.
//!
//! | Route | |
//! | --- | --- |
//! | `POST /api/dev/:id/codeserver/{start,stop,restart}` | asks the container's agent, and answers as it does |
//!
//! Contract test: `tests/contract/dev.rs`.

pub mod model;
pub mod routes;
mod store;

#[cfg(target_family = "wasm")]
mod entry;
