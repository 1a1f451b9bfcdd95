//! Instances, operations and the catalogue.
//!
//! | Route | |
//! | --- | --- |
//! | `GET /api/catalog/dev`, `GET /api/catalog/game` | what containers can have (A47) |
//! | `POST /api/instances` | begins to create an instance; once per `Idempotency-Key` |
//! | `GET /api/instances`, `GET /api/instances/:vmid` | one's own instances |
//! | `DELETE /api/instances/:vmid`, `DELETE /api/containers/:vmid` | begins to delete one |
//! | `GET /api/servers` | one's own servers as the portal shows them |
//! | `GET /api/servers/:vmid/status` | the same of one, and what its agent last said |
//! | `POST /api/servers/:id/game/{start,stop,restart,kill}` | a game on and off (A22, G12) |
//! | `POST /api/servers/:id/host/{start,stop,restart}` | a container on and off |
//! | `GET /api/game/servers/:id/players` | who plays |
//! | `POST /api/admin/servers/:id/{suspend,unsuspend}` | an operator takes one away and gives it back |
//! | `GET /api/operations/:id` | how far a creation or deletion is |
//!
//! Contract test: `tests/contract/servers.rs`.

pub mod model;
pub mod routes;
mod store;

#[cfg(target_family = "wasm")]
mod entry;
