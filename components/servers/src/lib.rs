//! Instances, operations and the catalogue.
//!
//! | Route | |
//! | --- | --- |
//! | `GET /api/catalog/dev` | runtimes that dev containers can have (A47) |
//! | `POST /api/instances` | begins to create an instance; once per `Idempotency-Key` |
//! | `GET /api/instances`, `GET /api/instances/:vmid` | one's own instances |
//! | `DELETE /api/instances/:vmid` | begins to delete one |
//! | `GET /api/servers/:vmid/status` | what its agent last said |
//! | `GET /api/operations/:id` | how far a creation or deletion is |
//!
//! Contract test: `tests/contract/servers.rs`.

pub mod model;
pub mod routes;
mod store;

#[cfg(target_family = "wasm")]
mod entry;
