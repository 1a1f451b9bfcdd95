//! `cargo xtask artifacts`: packs code-server and Node from their npm packages, and games from Debian's, into
//! an artifact store.

mod debian;
mod dev;
mod games;
mod npm;
mod pack;
mod prune;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use zlh_agent_protocol::artifact::Artifact;

use crate::shell::{megabytes, note};
use crate::workspace::Workspace;

/// The store, in the repository's top folder.
pub(crate) const FOLDER: &str = "artifacts";

/// What is made together, and made again without the others.
struct Part {
    /// Its catalogue, below the store's root.
    catalog: &'static str,
    /// Raised when something else is packed than before, so that stores made earlier are made again.
    recipe: &'static str,
    recipe_file: &'static str,
    /// What a catalogue's text lists; none when it is not what would be made now.
    lists: fn(&str) -> Option<Vec<Artifact>>,
    /// Packs everything below the store; the first folder is for work.
    make: fn(&Path, &Path) -> anyhow::Result<()>,
}

const PARTS: [Part; 2] = [dev::PART, games::PART];

/// Whether the store is there and whole.
pub(crate) fn are_made(workspace: &Workspace) -> bool {
    let store = workspace.root.join(FOLDER);
    PARTS.iter().all(|part| part.is_whole(&store))
}

/// Makes what of the store is not there and whole.
///
/// # Errors
/// When a tool is missing, npm or apt-get fails, or a file cannot be written.
pub(crate) fn make(workspace: &Workspace, force: bool) -> anyhow::Result<()> {
    let store = workspace.root.join(FOLDER);
    let work = workspace.target.join("artifacts-work");
    for part in &PARTS {
        if force || !part.is_whole(&store) {
            fs::create_dir_all(&store)?;
            (part.make)(&work, &store)?;
            fs::write(store.join(part.recipe_file), part.recipe)?;
            note(&format!("the store is {}", store.display()));
        }
    }
    Ok(())
}

impl Part {
    /// Its catalogue is there, and what it lists is on disk, unchanged.
    fn is_whole(&self, store: &Path) -> bool {
        let text = |path: &str| fs::read_to_string(store.join(path.trim_start_matches('/'))).ok();
        text(self.recipe_file).is_some_and(|recipe| recipe.trim() == self.recipe)
            && text(self.catalog)
                .and_then(|catalog| (self.lists)(&catalog))
                .is_some_and(|all| all.iter().all(|artifact| is_unchanged(store, artifact)))
    }
}

fn is_unchanged(store: &Path, artifact: &Artifact) -> bool {
    let Ok(mut file) = fs::File::open(store.join(&artifact.path)) else { return false };
    let mut hash = Sha256::new();
    io::copy(&mut file, &mut hash).is_ok() && pack::hex(&hash.finalize()) == artifact.sha256
}

fn artifact(version: &str, packed: pack::Packed, program: &str) -> Artifact {
    Artifact {
        version: version.to_owned(),
        path: packed.path,
        sha256: packed.sha256,
        size_bytes: packed.size_bytes,
        unpacked_bytes: packed.unpacked_bytes,
        program: program.to_owned(),
    }
}

/// An empty folder of that name.
fn fresh(folder: &Path) -> anyhow::Result<PathBuf> {
    if folder.exists() {
        fs::remove_dir_all(folder)
            .with_context(|| format!("could not remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    Ok(folder.to_owned())
}

/// Removes archives of earlier versions.
fn remove_others(folder: &Path, keep: &[&str]) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let kept = keep.iter().any(|name| path.ends_with(name));
        if !kept && path.extension().is_some_and(|extension| extension == "gz") {
            fs::remove_file(&path)
                .with_context(|| format!("could not remove {}", path.display()))?;
        }
    }
    Ok(())
}

fn write_json(store: &Path, path: &str, value: &impl serde::Serialize) -> anyhow::Result<()> {
    let file = store.join(path.trim_start_matches('/'));
    let text = serde_json::to_string_pretty(value)? + "\n";
    fs::write(&file, text).with_context(|| format!("could not write {}", file.display()))?;
    note(&format!("wrote {}", file.display()));
    Ok(())
}

/// What `pack` says about an archive's size compared with what is in it.
fn ratio(size: u64, unpacked: u64) -> String {
    format!("{} of files in an archive of {}", megabytes(unpacked), megabytes(size))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PART: Part = Part {
        catalog: "/list.json",
        recipe: "7",
        recipe_file: ".list-recipe",
        lists: |text| serde_json::from_str(text).ok(),
        make: |_, _| Ok(()),
    };

    #[test]
    fn a_part_is_whole_only_while_its_files_have_their_hashes() {
        let store = tempfile::tempdir().unwrap();
        let content = tempfile::tempdir().unwrap();
        fs::write(content.path().join("file"), "text").unwrap();
        let packed = pack::pack(content.path(), store.path(), "a.tar.gz").unwrap();
        write_json(store.path(), PART.catalog, &[artifact("1", packed, "file")]).unwrap();
        assert!(!PART.is_whole(store.path()), "without the recipe's number");

        fs::write(store.path().join(PART.recipe_file), PART.recipe).unwrap();
        assert!(PART.is_whole(store.path()));

        let mut bytes = fs::read(store.path().join("a.tar.gz")).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(store.path().join("a.tar.gz"), bytes).unwrap();
        assert!(!PART.is_whole(store.path()), "with one bit of an archive changed");
    }

    #[test]
    fn a_catalogue_of_other_versions_is_made_again() {
        let text = r#"{"runtimes":[],"addons":[]}"#;
        assert_eq!((dev::PART.lists)(text), None);
    }
}
