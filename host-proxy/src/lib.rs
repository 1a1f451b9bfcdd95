//! The native half of zlh: one listener, streams, the agent poller, the reconciler, and the embedded
//! Spin host that runs the components.

pub mod admin;
pub mod agent_client;
pub mod agent_poller;
pub mod answer;
pub mod api;
pub mod app;
pub mod artifacts;
pub mod body;
pub mod bootstrap;
pub mod clock;
pub mod component_host;
pub mod config;
pub mod data_dir;
pub mod doctor;
pub mod edge;
pub mod gateway;
pub mod hand_over;
pub mod ide_proxy;
pub mod metrics;
pub mod reach;
pub mod reconciler;
pub mod secrets;
pub mod shutdown;
pub mod streams;
#[cfg(test)]
mod test_kit;
pub mod traces;
pub mod variables;
