//! The built components in the real embedded host: one module per component, and what holds for all.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics and says why"
)]

mod auth;
mod databases;
mod dev;
mod files;
mod game_servers;
mod identity;
mod imports;
mod platform;
mod servers;
mod token_kinds;
mod tokens;

use http::Method;
use serde_json::{Value, json};
use system_tests::Session;
use system_tests::http::Reply;

/// What every route answers without a credential that it accepts.
#[track_caller]
fn assert_unauthenticated(reply: &Reply) {
    assert_eq!(reply.status, 401, "{}", reply.text());
    assert_eq!(reply.json()["code"], "unauthenticated");
    assert!(reply.headers.contains_key("x-request-id"));
}

/// What a route answers for what is absent and for what is another's alike.
#[track_caller]
fn assert_not_found(reply: &Reply) {
    assert_eq!(reply.status, 404, "{}", reply.text());
    assert_eq!(reply.json()["code"], "not_found");
    assert!(reply.headers.contains_key("x-request-id"));
}

/// What a route answers to a body that is not what it takes.
#[track_caller]
fn assert_invalid(reply: &Reply) {
    assert_eq!(reply.status, 400, "{}", reply.text());
    assert_eq!(reply.json()["code"], "invalid");
}

/// What a route answers to what is tried too often.
#[track_caller]
fn assert_rate_limited(reply: &Reply) {
    assert_eq!(reply.status, 429, "{}", reply.text());
    assert_eq!(reply.json()["code"], "rate_limited");
    assert!(reply.headers.contains_key("retry-after"));
}

/// What a route answers to a body that is larger than any that it takes.
async fn assert_too_large(session: &Session, method: Method, path: &str) {
    let body = json!({ "name": "x".repeat(70_000) });
    let reply = session.call(method, path, Some(&body)).await;
    assert_eq!(reply.status, 413, "{}", reply.text());
    assert_eq!(reply.json()["code"], "too_large");
}

/// The body with one member being another.
fn with(body: &Value, name: &str, value: Value) -> Value {
    let mut body = body.clone();
    body[name] = value;
    body
}

/// The body without one member.
fn without(body: &Value, name: &str) -> Value {
    let mut body = body.clone();
    body.as_object_mut().expect("an object").remove(name);
    body
}

/// A member that no body has.
fn with_unknown(body: &Value) -> Value {
    with(body, "role", json!("admin"))
}
