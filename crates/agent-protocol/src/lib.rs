//! Messages between host-proxy, components and agent.
//!
//! - [`agent`]: what an agent serves.
//! - [`artifact`]: the artifact store and its catalogue of runtimes.
//! - [`calls`]: which of it components ask for.
//! - [`config`]: what an agent is told to make of its container.
//! - [`console`]: a terminal over a WebSocket.
//! - [`files`]: files of a container.
//! - [`game`]: the catalogue of games.
//! - [`internal`]: what host-proxies ask of the components, below `/internal`.

pub mod agent;
pub mod artifact;
pub mod calls;
pub mod config;
pub mod console;
pub mod files;
pub mod game;
pub mod internal;
