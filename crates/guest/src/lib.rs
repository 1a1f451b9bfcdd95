//! What a component gets from the host that runs it: time, variables, key-value stores, outbound HTTP.
//!
//! The bindings' futures are not `Send`, though a component has one thread; each is wrapped here, so that
//! routers take handlers that use them.

mod clock;
#[cfg(target_family = "wasm")]
mod http_client;
#[cfg(target_family = "wasm")]
mod key_value;
#[cfg(target_family = "wasm")]
mod serve;
#[cfg(target_family = "wasm")]
mod variables;

pub use clock::{Clock, rfc3339, system_clock};
#[cfg(target_family = "wasm")]
pub use http_client::{SendError, send};
#[cfg(target_family = "wasm")]
pub use key_value::{KeyValue, KeyValueError};
#[cfg(target_family = "wasm")]
pub use serve::serve;
#[cfg(target_family = "wasm")]
pub use variables::{
    VariableError, optional_variable, parsed_variable, seconds_variable, variable,
};
