//! Answers that host-proxy gives itself: the error envelope, and pages for people.

use http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::Body as _;
pub use zlh_error_code::Code;

use crate::body::{self, Body};

/// The error envelope, its fields in the order that components write them in.
#[must_use]
pub fn error(code: Code, text: &str) -> Response<Body> {
    let status = code.status();
    let text = serde_json::Value::from(text);
    let content = format!(r#"{{"error":{text},"code":"{}"}}"#, code.as_str());
    let mut response = with_type(status, "application/json", content);
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// An envelope for an error that came without one, as from a host that found no route.
#[must_use]
pub fn in_place_of_empty(response: Response<Body>) -> Response<Body> {
    let status = response.status();
    let bare = (status.is_client_error() || status.is_server_error())
        && !response.headers().contains_key(CONTENT_TYPE)
        && response.body().size_hint().exact() == Some(0);
    if !bare {
        return response;
    }
    match Code::of(status) {
        Code::NotFound => not_found(),
        code => error(code, sentence(code)),
    }
}

fn sentence(code: Code) -> &'static str {
    match code {
        Code::Invalid => "the request is malformed",
        Code::Unauthenticated => "not authenticated",
        Code::Forbidden => "not allowed",
        Code::NotFound => "not found",
        Code::MethodNotAllowed => "this method is not served",
        Code::Conflict => "not in this state",
        Code::TooLarge => "the body is too large",
        Code::Unfit => "not fit for its purpose",
        Code::HeadersTooLarge => "the header section is too large",
        Code::RateLimited => "too many requests",
        Code::Internal => "internal error",
        Code::Unavailable => "the service is not available at the moment",
        Code::Timeout => "this took too long",
        Code::StorageFull => "there is no room for it",
    }
}

/// The answer for everything that is not there.
#[must_use]
pub fn not_found() -> Response<Body> {
    error(Code::NotFound, sentence(Code::NotFound))
}

/// A JSON body.
#[must_use]
pub fn json(status: StatusCode, value: &serde_json::Value) -> Response<Body> {
    with_type(status, "application/json", value.to_string())
}

/// Plain text.
#[must_use]
pub fn text(status: StatusCode, content: String) -> Response<Body> {
    with_type(status, "text/plain; charset=utf-8", content)
}

/// A page for people. `title` and `message` are our own words, so they are not escaped.
#[must_use]
pub fn page(code: Code, title: &str, message: &str, retry_seconds: Option<u32>) -> Response<Body> {
    let refresh = retry_seconds
        .map(|seconds| format!("<meta http-equiv=\"refresh\" content=\"{seconds}\">"))
        .unwrap_or_default();
    let content = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">{refresh}<title>{title}</title>\
         <style>body{{font:16px/1.5 system-ui,sans-serif;margin:15vh auto;max-width:32em;padding:0 1em}}\
         </style></head><body><h1>{title}</h1><p>{message}</p></body></html>"
    );
    let mut response = with_type(code.status(), "text/html; charset=utf-8", content);
    response.headers_mut().insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    );
    if let Some(seconds) = retry_seconds {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn with_type(status: StatusCode, content_type: &'static str, content: String) -> Response<Body> {
    let mut response = Response::new(body::full(content));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
