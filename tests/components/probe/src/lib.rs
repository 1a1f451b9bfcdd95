//! What a component of WASI 0.3 sees of its host, and what it can do to it.

#[cfg(target_family = "wasm")]
mod entry;
