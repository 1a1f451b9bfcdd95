//! The agent inside each container: the only thing that touches its processes and files.
//!
//! It is polled and never calls the control plane. [`App`] serves [`zlh_agent_protocol::agent`]; [`down()`]
//! ends a container's processes from outside. What the agent starts outlives it: whenever an agent starts,
//! it goes on with the saved configuration, and finds what earlier agents started by scanning processes.

mod agent;
mod app;
mod backlog;
mod blocking;
pub mod clock;
mod code_server;
pub mod config;
mod dev_environment;
mod down;
mod durable;
mod error;
mod facts;
mod files;
mod holder;
mod http_get;
mod install;
mod layout;
mod limit;
mod listener;
mod lock;
mod operation;
mod process;
mod provision;
mod readiness;
mod routes;
mod saved;
mod server;
mod shell;
mod workload;

pub use app::{App, StartError};
pub use code_server::{Listen, Template};
pub use down::{DownError, ProcessesLeft, down};
pub use holder::hold;
