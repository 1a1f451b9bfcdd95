//! Operations: a handler's attribute names its route and describes it, and both come from there.

use axum::routing::MethodFilter;
use utoipa::openapi::HttpMethod;
use utoipa::{IntoResponses, Path};

use crate::ErrorBody;

/// 400.
#[derive(IntoResponses)]
#[response(status = 400, description = "Malformed or out of range; `field` says what")]
pub struct Invalid(pub ErrorBody);

/// 401.
#[derive(IntoResponses)]
#[response(
    status = 401,
    description = "No credential that verifies",
    headers(("WWW-Authenticate" = String, description = "`Bearer`"))
)]
pub struct Unauthenticated(pub ErrorBody);

/// 403.
#[derive(IntoResponses)]
#[response(status = 403, description = "Not allowed to this caller")]
pub struct Forbidden(pub ErrorBody);

/// 404.
#[derive(IntoResponses)]
#[response(status = 404, description = "Absent, or not the caller's to know about")]
pub struct NotFound(pub ErrorBody);

/// 409.
#[derive(IntoResponses)]
#[response(status = 409, description = "The right request in the wrong state")]
pub struct Conflict(pub ErrorBody);

/// 413.
#[derive(IntoResponses)]
#[response(status = 413, description = "The body is too large")]
pub struct TooLarge(pub ErrorBody);

/// 429.
#[derive(IntoResponses)]
#[response(
    status = 429,
    description = "Too often",
    headers(("Retry-After" = u32, description = "Seconds"))
)]
pub struct RateLimited(pub ErrorBody);

/// What is not the client's doing, and can become of any request.
#[derive(IntoResponses)]
pub enum Failure {
    /// 500.
    #[response(status = 500, description = "A bug")]
    Internal(ErrorBody),
    /// 503.
    #[response(
        status = 503,
        description = "Something that this needs is down or busy",
        headers(("Retry-After" = u32, description = "Seconds"))
    )]
    Unavailable(ErrorBody),
    /// 504.
    #[response(status = 504, description = "It took longer than a request may")]
    Timeout(ErrorBody),
}

/// Declares the operations of a module: its `routes()`, and natively `openapi()`, which describes them.
///
/// `operations!(pub(super) State: handlers; modules)`. Each handler has `#[utoipa::path]`, each module
/// operations of its own. What is not called is not in a component's file: there only the routes are.
#[macro_export]
macro_rules! operations {
    ($vis:vis $state:ty: $($handler:ident),* $(,)? $(; $($module:ident),+ $(,)?)?) => {
        /// The routes of the operations.
        $vis fn routes() -> ::axum::Router<$state> {
            $crate::pastey::paste! {
                ::axum::Router::new()
                    $(.route(
                        &$crate::path::<[<__path_ $handler>]>(),
                        ::axum::routing::on($crate::method::<[<__path_ $handler>]>(), $handler),
                    ))*
                    $($(.merge($module::routes()))+)?
            }
        }

        /// Describes the operations.
        #[cfg(not(target_family = "wasm"))]
        #[must_use]
        $vis fn openapi() -> ::utoipa::openapi::OpenApi {
            #[derive(::utoipa::OpenApi)]
            #[openapi(paths($($handler),*))]
            struct Operations;

            <Operations as ::utoipa::OpenApi>::openapi()
                $($(.merge_from($module::openapi()))+)?
        }
    };
}

/// The route of a handler.
#[must_use]
pub fn path<P: Path>() -> String {
    P::path()
}

/// The method of a handler.
#[must_use]
pub fn method<P: Path>() -> MethodFilter {
    match P::methods().first() {
        Some(HttpMethod::Post) => MethodFilter::POST,
        Some(HttpMethod::Put) => MethodFilter::PUT,
        Some(HttpMethod::Patch) => MethodFilter::PATCH,
        Some(HttpMethod::Delete) => MethodFilter::DELETE,
        _ => MethodFilter::GET,
    }
}
