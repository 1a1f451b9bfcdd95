//! Adds a header to the request and one to the response; both grow with each wrapper around.

use spin_sdk::http::{EmptyBody, HeaderValue, IntoResponse, Request, Response, StatusCode, next};
use spin_sdk::{http_service, variables};

#[http_service]
async fn handle(
    mut request: Request,
) -> Result<impl IntoResponse, spin_sdk::wasip3::http::types::ErrorCode> {
    let mark = match variables::get("mark").await {
        Ok(mark) => mark,
        Err(error) => format!("unmarked ({error})"),
    };
    let mark = HeaderValue::from_str(&mark).unwrap_or(HeaderValue::from_static("odd"));
    if request.uri().path() == "/refused" {
        let mut refused = http::Response::new(EmptyBody::new());
        *refused.status_mut() = StatusCode::FORBIDDEN;
        return refused.into_response();
    }
    request.headers_mut().append("x-wrapped", mark.clone());
    let mut response: Response = next(request).await?;
    response.headers_mut().append("x-wrapped", mark);
    response.into_response()
}
