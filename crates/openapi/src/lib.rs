//! The public API as one OpenAPI 3.1 document, put together from the components' code (H13).

// Components describe themselves natively alone: there is nothing to put together from their wasm.
#![cfg(not(target_family = "wasm"))]

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, InfoBuilder, OpenApi, OpenApiBuilder};

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
                .description(Some("Hosting control plane for game servers and dev containers"))
                .build(),
        )
        .components(Some(
            ComponentsBuilder::new()
                .schema_from::<zlh_api::ErrorBody>()
                .security_scheme("token", SecurityScheme::Http(token))
                .build(),
        ))
        .build();
    for component in [
        auth::routes::openapi(),
        dev::routes::openapi(),
        platform::routes::openapi(),
        servers::routes::openapi(),
        tokens::routes::openapi(),
    ] {
        document.merge(component);
    }
    document
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
