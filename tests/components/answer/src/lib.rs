//! A dependency that tries whatever it is asked to.

#[cfg(target_family = "wasm")]
mod entry;
