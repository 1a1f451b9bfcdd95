//! Whether the catalogue has what is asked for.

use zlh_agent_protocol::artifact::{CODE_SERVER_ADDON, DevCatalog};
use zlh_agent_protocol::game::{GameCatalog, GameVersion};
use zlh_agent_protocol::internal::{InstanceSpec, Workload};
use zlh_api::ApiError;

use crate::routes::Catalog;

/// Refuses what is not offered, by the name of the field; gives a game the ports that it listens on.
pub(super) async fn check(catalog: &dyn Catalog, spec: &mut InstanceSpec) -> Result<(), ApiError> {
    match &mut spec.workload {
        Workload::Dev { runtime, version, enable_code_server } => {
            check_dev(&catalog.dev().await?, runtime, version, *enable_code_server)
        }
        Workload::Game { game, variant, version, ports, .. } => {
            let catalog = catalog.games().await?;
            let server = &find_game(&catalog, game, variant, version)?.server;
            if spec.memory_mib < server.min_memory_mb {
                let least = format!("must be at least {} for this game", server.min_memory_mb);
                return Err(ApiError::field("memoryMiB", least));
            }
            let listens_on = u16::try_from(server.ports.len()).map_err(ApiError::internal)?;
            if *ports > listens_on {
                let most = format!("must be at most {listens_on}: this game has no more");
                return Err(ApiError::field("portsNeeded", most));
            }
            *ports = listens_on;
            Ok(())
        }
    }
}

fn check_dev(
    catalog: &DevCatalog,
    runtime: &str,
    version: &str,
    code_server: bool,
) -> Result<(), ApiError> {
    let known = catalog.runtimes.iter().find(|package| package.id == runtime);
    let offered = catalog.runtimes.iter().map(|package| package.id.as_str());
    let package = known.ok_or_else(|| one_of("runtime", offered))?;
    if package.version(version).is_none() {
        let offered = package.versions.iter().map(|artifact| artifact.version.as_str());
        return Err(one_of("version", offered));
    }
    if code_server && catalog.addon(CODE_SERVER_ADDON).is_none() {
        return Err(ApiError::field("enable_code_server", "code-server is not offered"));
    }
    Ok(())
}

fn find_game<'a>(
    catalog: &'a GameCatalog,
    game: &str,
    variant: &str,
    version: &str,
) -> Result<&'a GameVersion, ApiError> {
    let found = catalog.games.iter().find(|known| known.id == game);
    let offered = catalog.games.iter().map(|known| known.id.as_str());
    let found = found.ok_or_else(|| one_of("game", offered))?;

    let offered = found.variants.iter().map(|known| known.id.as_str());
    let found = found.variants.iter().find(|known| known.id == variant);
    let found = found.ok_or_else(|| one_of("variant", offered))?;

    let offered = found.versions.iter().map(|known| known.artifact.version.as_str());
    let found = found.versions.iter().find(|known| known.artifact.version == version);
    found.ok_or_else(|| one_of("version", offered))
}

fn one_of<'a>(field: &'static str, offered: impl Iterator<Item = &'a str>) -> ApiError {
    let offered: Vec<_> = offered.collect();
    let message = if offered.is_empty() {
        "none is offered".to_owned()
    } else {
        format!("must be one of {}", offered.join(", "))
    };
    ApiError::field(field, message)
}
