//! Accounts, sessions and access tokens (A25, G04, G30).
//!
//! | Route | |
//! | --- | --- |
//! | `POST /api/auth/register` | a new account, logged in |
//! | `POST /api/auth/login` | a new session |
//! | `POST /api/auth/refresh` | the next pair of tokens of a session |
//! | `POST /api/auth/logout` | ends the session and everything that came of it |
//! | `GET /api/auth/sessions`, `DELETE /api/auth/sessions/:id` | one's own sessions, and an end to one of them |
//! | `POST /api/auth/logout-all` | an end to all of them |
//! | `POST /api/auth/password` | another password; all other sessions end |
//! | `GET`, `PATCH /api/auth/me` | the account |
//! | `POST /internal/users` | an account made by the operator |
//!
//! A session is one login. Its access tokens live for an hour; its refresh tokens work once each, and a
//! second use ends the session, because one of the two users stole it (RFC 9700 section 4.14).
//!
//! Contract test: `tests/contract/auth.rs`.

pub mod model;
pub mod password;
pub mod routes;
mod store;
mod throttle;

#[cfg(target_family = "wasm")]
mod entry;
