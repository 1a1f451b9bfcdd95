//! The public API as one OpenAPI 3.1 document, put together from the components' code (H13).

// Components describe themselves natively alone: there is nothing to put together from their wasm.
#![cfg(not(target_family = "wasm"))]

use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, Header, InfoBuilder, OpenApi, OpenApiBuilder, PathItem, Ref, RefOr,
};

const DESCRIPTION: &str = "\
Hosting control plane for game servers and dev containers.

What is not a request to an operation is answered with the same `Error`: 400 when it is no HTTP that can be passed \
on, 404 for a path that names nothing, 405 for a method that the path does not have, 413 and 431 when it is too large.";

/// The whole document. A component that serves public routes is named here.
#[must_use]
pub fn document() -> OpenApi {
    let token = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .bearer_format("JWT")
        .description(Some("The access token of a login"))
        .build();
    let mut document = OpenApiBuilder::new()
        .info(
            InfoBuilder::new()
                .title("zlh")
                .version(env!("CARGO_PKG_VERSION"))
                .description(Some(DESCRIPTION))
                .build(),
        )
        .components(Some(
            ComponentsBuilder::new()
                .schema_from::<zlh_api::ErrorBody>()
                .security_scheme("token", SecurityScheme::Http(token))
                .header("x-request-id", request_id())
                .build(),
        ))
        .build();
    for component in [
        auth::routes::openapi(),
        dev::routes::openapi(),
        files::routes::openapi(),
        platform::routes::openapi(),
        servers::routes::openapi(),
        tokens::routes::openapi(),
    ] {
        document.merge(component);
    }
    document.paths.paths.values_mut().flat_map(operations).for_each(complete_headers);
    document
}

fn request_id() -> Header {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9-]{1,64}$"));
    HeaderBuilder::new()
        .schema(Some(text))
        .description(Some("Names the request in our log"))
        .extensions(Some(required()))
        .build()
}

/// What utoipa has no word for.
fn required() -> Extensions {
    Extensions::from_iter([("required", true)])
}

/// Every answer has an `x-request-id`, and every header that is described.
fn complete_headers(operation: &mut Operation) {
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else { continue };
        for header in response.headers.values_mut() {
            if let RefOr::T(header) = header {
                header.extensions = Some(required());
            }
        }
        let request_id = Ref::new("#/components/headers/x-request-id");
        response.headers.insert("x-request-id".to_owned(), RefOr::Ref(request_id));
    }
}

fn operations(path: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut path.get, &mut path.post, &mut path.put, &mut path.patch, &mut path.delete]
        .into_iter()
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_the_code_says() {
        let written = include_str!("../../../docs/openapi.json");
        let current = format!("{}\n", document().to_pretty_json().unwrap());

        assert!(written == current, "docs/openapi.json is old: `cargo xtask openapi` writes it");
    }
}
