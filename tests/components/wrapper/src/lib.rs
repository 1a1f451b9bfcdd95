//! Middleware that leaves its mark.

#[cfg(target_family = "wasm")]
mod entry;
