//! The games that are packed, and what the catalogue says of each: how it is started, when it is ready, how it
//! is saved and stopped.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use zlh_agent_protocol::artifact::{Artifact, GAME_CATALOG_PATH};
use zlh_agent_protocol::game::{Game, GameCatalog, GameVersion, ServerSpec, Variant, Word};

use super::{Part, debian, remove_others, write_json};
use crate::setup;
use crate::shell::{note, phase};

mod flying_squid;
mod freeciv;
mod openttd;

/// Where the archives are, below the store.
const FOLDER: &str = "games";

/// What game servers can run.
pub(super) const PART: Part = Part {
    catalog: GAME_CATALOG_PATH,
    recipe: "1",
    recipe_file: ".games-recipe",
    lists: |text| {
        let catalog: GameCatalog = serde_json::from_str(text).ok()?;
        Some(catalog.artifacts().cloned().collect())
    },
    make,
};

/// Packs every game that can be had here.
fn make(work: &Path, store: &Path) -> anyhow::Result<()> {
    phase("Packing games, from Debian packages and npm");
    setup::artifact_tools()?;
    fs::create_dir_all(store.join(FOLDER))?;
    let mut games = Vec::new();
    if debian::is_here() {
        games.push(openttd::make(work, store)?);
        games.push(freeciv::make(work, store)?);
    } else {
        note("there is no apt-get here, so the games of Debian packages are left out");
    }
    games.push(flying_squid::make(work, store)?);
    let catalog = GameCatalog { games };
    let paths: Vec<&str> = catalog.artifacts().map(|artifact| artifact.path.as_str()).collect();
    remove_others(&store.join(FOLDER), &paths)?;
    write_json(store, GAME_CATALOG_PATH, &catalog)
}

/// A game that has one variant and one version.
fn vanilla(id: &str, artifact: Artifact, server: ServerSpec) -> Game {
    let version = GameVersion { artifact, runtime: None, server };
    let variant = Variant { id: "vanilla".to_owned(), versions: vec![version] };
    Game { id: id.to_owned(), variants: vec![variant] }
}

fn plain(word: &str) -> Word {
    Word::Plain(word.to_owned())
}

fn texts<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}
