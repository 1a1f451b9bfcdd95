//! What can be had: runtimes and games as the artifact store lists them.

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use zlh_agent_protocol::game;
use zlh_api::{ApiError, Failure, Json, Unauthenticated};
use zlh_authn::Actor;

use super::Servers;

zlh_api::operations!(pub(super) Servers: list_runtimes, list_games);

#[derive(Debug, Serialize, ToSchema)]
struct Runtimes {
    runtimes: Vec<Runtime>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Runtime {
    id: String,
    versions: Vec<String>,
}

/// Lists what dev containers can have.
#[utoipa::path(
    get,
    path = "/api/catalog/dev",
    tag = "catalogue",
    security(("token" = [])),
    responses((status = 200, body = Runtimes), Unauthenticated, Failure),
)]
async fn list_runtimes(
    State(servers): State<Servers>,
    _: Actor,
) -> Result<Json<Runtimes>, ApiError> {
    let catalog = servers.catalog.dev().await?;
    let runtimes = catalog.runtimes.into_iter().map(|package| Runtime {
        id: package.id,
        versions: package.versions.into_iter().map(|artifact| artifact.version).collect(),
    });
    Ok(Json(Runtimes { runtimes: runtimes.collect() }))
}

#[derive(Debug, Serialize, ToSchema)]
struct Games {
    games: Vec<Game>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Game {
    id: String,
    variants: Vec<Variant>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Variant {
    id: String,
    versions: Vec<String>,
}

/// Lists what game servers can run.
#[utoipa::path(
    get,
    path = "/api/catalog/game",
    tag = "catalogue",
    security(("token" = [])),
    responses((status = 200, body = Games), Unauthenticated, Failure),
)]
async fn list_games(State(servers): State<Servers>, _: Actor) -> Result<Json<Games>, ApiError> {
    let catalog = servers.catalog.games().await?;
    let variant = |variant: game::Variant| Variant {
        id: variant.id,
        versions: variant.versions.into_iter().map(|known| known.artifact.version).collect(),
    };
    let games = catalog.games.into_iter().map(|game| Game {
        id: game.id,
        variants: game.variants.into_iter().map(variant).collect(),
    });
    Ok(Json(Games { games: games.collect() }))
}
