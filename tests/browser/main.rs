//! Journeys in a real browser: the page that a customer sees.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics and says why"
)]

mod ide;
