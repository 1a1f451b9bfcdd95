//! Messages between host-proxy, components and agent.
//!
//! - [`agent`]: what an agent serves, and the configuration it is given.
//! - [`artifact`]: the catalogues of the artifact store.
//! - [`internal`]: what host-proxies ask of the components, below `/internal`.

pub mod agent;
pub mod artifact;
pub mod internal;
