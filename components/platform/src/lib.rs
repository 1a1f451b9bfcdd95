//! State of the host-proxies: operations, leases, heartbeats, migrations.
//!
//! | Route | |
//! | --- | --- |
//! | `GET /api/health` | that the platform answers |
//! | `GET /.well-known/jwks.json` | public keys of our tokens |
//! | `POST /internal/migrate` | brings the schema up to date |
//! | `GET /internal/agents` | which agents there are to poll |
//! | `POST /internal/heartbeats` | what polling them found |
//! | `POST /internal/audit` | what they did for their operators |
//! | `POST /internal/operations/claim` | the next piece of work, under a lease |
//! | `POST /internal/operations/:id/{heartbeat,ports,steps,undo,finish}` | what became of it |
//!
//! Messages: `zlh_agent_protocol::internal`. Contract test: `tests/contract/platform.rs`.

pub mod model;
pub mod routes;
mod store;

#[cfg(target_family = "wasm")]
mod entry;
