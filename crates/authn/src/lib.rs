//! Verified callers, and the tokens that prove them.

pub mod actor;
pub mod session;
pub mod token;
pub mod verified;

#[cfg(target_family = "wasm")]
pub mod guest;
#[cfg(not(target_family = "wasm"))]
pub mod testing;

pub use actor::{Actor, Admin, AuthFailure, HostProxy, Role, Verifier, with_verifier};
