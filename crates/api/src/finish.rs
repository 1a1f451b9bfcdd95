//! The last layer of every component: request id, error envelope for what no handler answered, CORS, and
//! one log line for each 5xx.

use std::error::Error;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD,
    CACHE_CONTROL, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};
use uuid::Uuid;

use crate::ApiError;
use crate::error::Cause;

/// Largest JSON body, in bytes. The largest request of the contract has a few hundred.
const MAX_BODY_BYTES: usize = 64 * 1024;
/// The name of a request in every log, on its way through all parts.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

tokio::task_local! {
    static REQUEST_ID: HeaderValue;
}

/// The name of the request that is being answered, for calls that are made on its behalf.
#[must_use]
pub fn request_id() -> Option<HeaderValue> {
    REQUEST_ID.try_get().ok()
}

/// What the operator sets for all components alike.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Origins other than our own whose pages may call the API, exactly as browsers send them.
    pub allowed_origins: Vec<String>,
}

impl Settings {
    /// Reads the variable `allowed_origins`: separated by commas, empty for none.
    #[must_use]
    pub fn from_allowed_origins(list: &str) -> Self {
        let origins = list.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        Self { allowed_origins: origins.map(str::to_owned).collect() }
    }
}

/// Completes a component's router.
pub fn finish(router: Router, settings: Settings) -> Router {
    router
        .fallback(|| async { ApiError::NotFound })
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed })
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .layer(from_fn_with_state(Arc::new(settings), complete))
}

async fn complete(State(settings): State<Arc<Settings>>, request: Request, next: Next) -> Response {
    let request_id = given_or_new_id(&request);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let origin = request
        .headers()
        .get(ORIGIN)
        .filter(|origin| {
            settings.allowed_origins.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes())
        })
        .cloned();
    let preflight =
        method == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);

    let mut response = if preflight {
        StatusCode::NO_CONTENT.into_response()
    } else {
        REQUEST_ID.scope(request_id.clone(), next.run(request)).await
    };

    if let Some(Cause(error)) = response.extensions_mut().remove::<Cause>() {
        let error: &dyn Error = &*error;
        tracing::error!(request.id = ?request_id, %method, path, error = %chain(error), "a request failed");
    }
    let headers = response.headers_mut();
    headers.insert(X_REQUEST_ID, request_id);
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    if let Some(origin) = origin {
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(VARY, HeaderValue::from_static("Origin"));
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("x-request-id"));
        if preflight {
            headers.insert(
                ACCESS_CONTROL_ALLOW_HEADERS,
                HeaderValue::from_static("authorization, content-type, idempotency-key"),
            );
            headers.insert(
                ACCESS_CONTROL_ALLOW_METHODS,
                HeaderValue::from_static("GET, POST, PUT, PATCH, DELETE"),
            );
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }
    response
}

/// The id that the host-proxy gave the request; a new one where there is none, or no sane one.
fn given_or_new_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(X_REQUEST_ID).filter(|id| {
        (1..=64).contains(&id.len())
            && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    });
    given.cloned().unwrap_or_else(|| {
        let id = Uuid::new_v4().to_string();
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("none"))
    })
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::{get, post};
    use http_body_util::BodyExt;
    use serde::Deserialize;
    use tower::ServiceExt;

    use super::*;
    use crate::{Json, Path};

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Input {
        #[serde(rename = "n")]
        _n: u8,
    }

    fn router() -> Router {
        let router = Router::new()
            .route("/n", post(|Json(_): Json<Input>| async { "ok" }))
            .route("/things/{id}", get(|Path(_): Path<u8>| async { "ok" }))
            .route(
                "/bug",
                get(|| async {
                    ApiError::internal("the table `users` is on fire").into_response()
                }),
            );
        finish(router, Settings::from_allowed_origins("https://portal.example, "))
    }

    async fn send(
        request: http::request::Builder,
        body: &str,
    ) -> (StatusCode, http::HeaderMap, String) {
        let response =
            router().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts.status, parts.headers, String::from_utf8(bytes.to_vec()).unwrap())
    }

    fn json(method: &str, uri: &str) -> http::request::Builder {
        Request::builder().method(method).uri(uri).header("content-type", "application/json")
    }

    #[tokio::test]
    async fn what_no_handler_answers_has_the_same_envelope() {
        let (status, headers, body) = send(json("GET", "/nowhere"), "").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body, r#"{"error":"not found","code":"not_found"}"#);
        assert!(headers.contains_key("x-request-id"));

        let (status, _, body) = send(json("GET", "/n"), "").await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(
            body,
            r#"{"error":"this method is not allowed here","code":"method_not_allowed"}"#
        );
    }

    #[tokio::test]
    async fn a_bad_body_is_answered_400_and_says_what_is_wrong() {
        for (body, wanted) in [
            ("{", "EOF while parsing an object at line 1 column 1"),
            (r#"{"n":1,"role":"admin"}"#, "unknown field `role`, expected `n` at line 1 column 13"),
            (r#"{"n":256}"#, "invalid value: integer `256`, expected u8 at line 1 column 8"),
        ] {
            let (status, _, text) = send(json("POST", "/n"), body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
            assert!(text.contains(&wanted.replace('"', "\\\"")), "{body}: {text}");
            assert!(text.contains(r#""code":"invalid""#), "{text}");
        }
    }

    #[tokio::test]
    async fn a_large_body_is_refused() {
        let (status, _, _) =
            send(json("POST", "/n"), &format!(r#"{{"n":"{}"}}"#, "x".repeat(MAX_BODY_BYTES))).await;
        assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_path_that_does_not_parse_is_a_thing_that_is_not_there() {
        let (status, _, body) = send(json("GET", "/things/zero"), "").await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body, r#"{"error":"not found","code":"not_found"}"#);
    }

    #[tokio::test]
    async fn a_bug_does_not_tell_the_client_about_itself() {
        let (status, _, body) = send(json("GET", "/bug"), "").await;
        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body, r#"{"error":"something went wrong on our side","code":"internal"}"#);
    }

    #[tokio::test]
    async fn only_listed_origins_may_read_answers() {
        for (origin, allowed) in [
            ("https://portal.example", true),
            ("https://portal.example.evil", false),
            ("null", false),
        ] {
            let (_, headers, _) = send(json("GET", "/nowhere").header("origin", origin), "").await;
            assert_eq!(headers.contains_key("access-control-allow-origin"), allowed, "{origin}");
            assert!(!headers.contains_key("access-control-allow-credentials"));
        }
    }

    #[tokio::test]
    async fn a_request_id_is_kept_when_it_is_sane() {
        for (id, kept) in [("abc-123", true), ("a b", false), ("", false)] {
            let (_, headers, _) =
                send(json("GET", "/nowhere").header("x-request-id", id), "").await;
            assert_eq!(headers["x-request-id"] == id, kept, "{id:?}");
        }
    }
}
