//! Short-lived tokens that open one IDE or stream, and what they open.
//!
//! | Route | |
//! | --- | --- |
//! | `POST /api/dev/:id/ide-token` | a token for the IDE of one's own dev container (A35) |
//! | `POST /api/servers/:id/stream-token` | a token for the console or the files of one's own server (B24, A37) |
//! | `POST /internal/streams/check` | whether a token may open a stream now |
//! | `POST /internal/ide/open` | exchanges a token, once, for a session (D04, H15) |
//! | `POST /internal/ide/check` | whether a session or token may use an IDE now (D06, A43, A44) |
//! | `POST /internal/ide/revalidate` | which open streams must be closed (G15) |
//!
//! Contract test: `tests/contract/tokens.rs`.

pub mod model;
pub mod routes;
mod store;

#[cfg(target_family = "wasm")]
mod entry;
