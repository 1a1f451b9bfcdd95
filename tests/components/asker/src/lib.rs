//! Asks its dependency and answers with what it says.

#[cfg(target_family = "wasm")]
mod entry;
