//! Files of dev containers, but for the streams, which host-proxy splices (B14, B25).
//!
//! | Route | |
//! | --- | --- |
//! | `GET /api/dev/:id/files/{list,stat,read}` | looks |
//! | `POST /api/dev/:id/files/{write,revert,mkdir,rename,copy,archive,extract}` | changes something |
//! | `DELETE /api/dev/:id/files/delete` | removes a file or folder |
//!
//! The container's agent decides what is allowed; here it is decided whose container it is.
//!
//! Contract test: `tests/contract/files.rs`.

pub mod routes;
mod store;

#[cfg(target_family = "wasm")]
mod entry;
