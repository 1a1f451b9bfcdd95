//! Journeys through the whole system as it is run: `zlh up`, real agents, real code-server, real games.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics and says why"
)]

mod artifacts;
mod components;
mod crashes;
mod deletion;
mod doctor;
mod edge;
mod failures;
mod games;
mod hosts;
mod ide_access;
mod journey;
mod logins;
mod settings;
mod swap_load;
mod traces;
