//! What a component of WASI 0.2 sees of its host.

#[cfg(target_family = "wasm")]
mod entry;
