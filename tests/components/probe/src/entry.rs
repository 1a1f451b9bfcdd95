//! The routes of the probe, by the first segment below wherever it is mounted.

mod damage;
mod look;

use std::fmt::Display;

use bytes::Bytes;
use http::{Response, StatusCode};
use spin_sdk::http::{BoxBody, FullBody, Request, box_body};
use spin_sdk::http_service;

type Answer = Response<BoxBody>;

#[http_service]
async fn handle(request: Request) -> Answer {
    let path = mounted_path(&request);
    let (route, rest) = match path.trim_start_matches('/').split_once('/') {
        Some((route, rest)) => (route.to_owned(), rest.to_owned()),
        None => (path.trim_start_matches('/').to_owned(), String::new()),
    };
    match route.as_str() {
        "hello" => text("hello"),
        "echo" => Response::new(box_body(request.into_body())),
        "request" => look::request(&request),
        "env" => look::environment(&rest),
        "variable" => look::variable(&rest).await,
        "file" => look::file(&rest),
        "write" => look::write(&rest),
        "key-value" => look::key_value(&rest).await,
        "sqlite" => look::sqlite(&rest).await,
        "get" => look::get(request.uri().query().unwrap_or_default()).await,
        "socket" => look::socket(&rest),
        "count" => damage::count(request).await,
        "loop" => damage::endless(),
        "compute" => damage::compute(number(&rest)),
        "grow" => damage::grow(),
        "panic" => damage::fail(),
        "stream" => damage::stream(),
        "hang" => damage::hang().await,
        "headers" => damage::headers(number(&rest)),
        "header" => damage::header(number(&rest)),
        "body" => damage::body(number(&rest)),
        _ => status(StatusCode::NOT_FOUND, "no such probe"),
    }
}

/// The path below the route; the whole path on an exact one.
fn mounted_path(request: &Request) -> String {
    let below = request.headers().get("spin-path-info").and_then(|value| value.to_str().ok());
    below.filter(|below| !below.is_empty()).unwrap_or(request.uri().path()).to_owned()
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_default()
}

fn text(text: impl Display) -> Answer {
    status(StatusCode::OK, text)
}

fn status(status: StatusCode, text: impl Display) -> Answer {
    let body = box_body(FullBody::new(Bytes::from(text.to_string())));
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

/// The value, or 500 with what is wrong.
fn said<T: Display, E: std::fmt::Debug>(result: Result<T, E>) -> Answer {
    match result {
        Ok(value) => text(value),
        Err(error) => status(StatusCode::INTERNAL_SERVER_ERROR, format!("{error:?}")),
    }
}
