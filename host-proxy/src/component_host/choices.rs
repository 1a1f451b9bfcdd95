//! Which components were swapped for which files: a small file that survives any crash whole.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tempfile::NamedTempFile;

use super::component_files::Digest;

/// Files that a component can go back to.
const HISTORY: usize = 5;

/// What serves in place of the manifest's file, and what served before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choice {
    pub(crate) current: Digest,
    /// Newest first.
    pub(crate) previous: Vec<Digest>,
    /// Unix seconds.
    pub(crate) since: i64,
}

/// Every choice, by stanza.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choices {
    components: BTreeMap<String, Choice>,
}

impl Choices {
    /// Reads them; without a file there are none. Blocks.
    pub(crate) fn read(path: &Path) -> io::Result<Self> {
        match fs::read(path) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// Replaces the file: after a crash it is the old or the new one. Blocks.
    pub(crate) fn write(&self, path: &Path) -> io::Result<()> {
        let folder = path.parent().map_or_else(PathBuf::new, Path::to_owned);
        let mut file = NamedTempFile::new_in(&folder)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.as_file().sync_all()?;
        file.persist(path)?;
        File::open(&folder)?.sync_all()
    }

    pub(crate) fn get(&self, id: &str) -> Option<&Choice> {
        self.components.get(id)
    }

    /// The chosen digests, by stanza.
    pub(crate) fn current(&self) -> BTreeMap<String, Digest> {
        self.components.iter().map(|(id, choice)| (id.clone(), choice.current.clone())).collect()
    }

    /// Every digest that may be needed again.
    pub(crate) fn digests(&self) -> BTreeSet<Digest> {
        self.components
            .values()
            .flat_map(|choice| choice.previous.iter().chain([&choice.current]))
            .cloned()
            .collect()
    }

    /// Notes that `new` takes the place of `old`.
    #[must_use]
    pub(crate) fn swapped(&self, id: &str, old: Digest, new: Digest, now: i64) -> Self {
        let mut previous = self.get(id).map_or_else(Vec::new, |choice| choice.previous.clone());
        previous.retain(|digest| *digest != new && *digest != old);
        previous.insert(0, old);
        previous.truncate(HISTORY);
        self.with(id, Choice { current: new, previous, since: now })
    }

    /// Goes one file back; `None` when there is none. Once nothing is left to go back to and it is the
    /// manifest's own file that serves, the manifest is what counts again.
    pub(crate) fn rolled_back(
        &self,
        id: &str,
        manifest: Option<&Digest>,
        now: i64,
    ) -> Option<Self> {
        let choice = self.get(id)?;
        let (current, previous) = choice.previous.split_first()?;
        if previous.is_empty() && manifest == Some(current) {
            return Some(self.without(id));
        }
        let (current, previous) = (current.clone(), previous.to_vec());
        Some(self.with(id, Choice { current, previous, since: now }))
    }

    /// Goes back to the manifest's file, whatever it is by now.
    #[must_use]
    pub(crate) fn without(&self, id: &str) -> Self {
        let mut changed = self.clone();
        changed.components.remove(id);
        changed
    }

    fn with(&self, id: &str, choice: Choice) -> Self {
        let mut changed = self.clone();
        changed.components.insert(id.to_owned(), choice);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(number: u8) -> Digest {
        Digest::of(&[number])
    }

    #[test]
    fn what_is_written_is_read_and_nothing_else_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("components.json");
        assert_eq!(Choices::read(&path).unwrap(), Choices::default());
        let choices = Choices::default().swapped("a", digest(1), digest(2), 7);

        choices.write(&path).unwrap();
        choices.write(&path).unwrap();

        assert_eq!(Choices::read(&path).unwrap(), choices);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        fs::write(&path, "{\"comp").unwrap();
        assert!(Choices::read(&path).is_err());
    }

    #[test]
    fn each_step_back_undoes_one_swap_and_the_last_returns_to_the_manifest() {
        let swapped = Choices::default().swapped("a", digest(1), digest(2), 0).swapped(
            "a",
            digest(2),
            digest(3),
            0,
        );
        let current = |choices: &Choices| choices.get("a").map(|choice| choice.current.clone());

        let once = swapped.rolled_back("a", Some(&digest(1)), 0).unwrap();
        let twice = once.rolled_back("a", Some(&digest(1)), 0).unwrap();

        assert_eq!(current(&once), Some(digest(2)));
        assert_eq!(current(&twice), None);
        assert!(twice.rolled_back("a", Some(&digest(1)), 0).is_none());
        // The manifest's file is another by now: the one that served before is what was asked for.
        let kept = once.rolled_back("a", Some(&digest(9)), 0).unwrap();
        assert_eq!(current(&kept), Some(digest(1)));
        assert!(kept.rolled_back("a", Some(&digest(9)), 0).is_none());
    }

    #[test]
    fn the_history_is_short_and_names_no_file_twice() {
        let mut choices = Choices::default();
        for number in 0..20 {
            choices = choices.swapped("a", digest(number), digest(number + 1), 0);
        }
        assert_eq!(choices.get("a").unwrap().previous.len(), HISTORY);

        let there = Choices::default().swapped("a", digest(1), digest(2), 0);
        let back = there.swapped("a", digest(2), digest(1), 0);

        assert_eq!(back.get("a").unwrap().previous, [digest(2)]);
    }
}
