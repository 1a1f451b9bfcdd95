//! What may be done to which file: of a dev container everything, of a game server what its catalogue lists and no
//! more, because what a game loads is code.

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use zlh_agent_protocol::game::FileAccess;

use super::FileError;
use super::path::RelativePath;

/// What is about to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// List, stat, read, download.
    Read,
    /// Write and revert text.
    Write,
    /// Put an uploaded file in place.
    Upload,
    /// Remove a file.
    Delete,
    /// Everything else: folders, renaming, copies, archives.
    Arrange,
}

/// What is allowed.
pub(crate) enum Policy {
    /// Everything.
    Workspace,
    /// Reading, and what is listed.
    Listed { write: GlobSet, upload: GlobSet, delete: GlobSet, hidden: GlobSet },
}

impl Policy {
    /// That of a game server.
    #[cfg_attr(not(test), expect(dead_code, reason = "game servers have no files here yet"))]
    pub(crate) fn listed(access: &FileAccess) -> Result<Self, globset::Error> {
        Ok(Self::Listed {
            write: globs(&access.write)?,
            upload: globs(&access.upload)?,
            delete: globs(&access.delete)?,
            hidden: globs(&access.hidden)?,
        })
    }

    pub(super) fn check(&self, act: Act, path: &RelativePath) -> Result<(), FileError> {
        let Self::Listed { write, upload, delete, .. } = self else { return Ok(()) };
        if self.hides(path) {
            return Err(FileError::NotFound);
        }
        let listed = match act {
            Act::Read => return Ok(()),
            Act::Write => write.is_match(path.as_str()),
            Act::Upload => upload.is_match(path.as_str()),
            Act::Delete => delete.is_match(path.as_str()),
            Act::Arrange => false,
        };
        if listed {
            Ok(())
        } else {
            Err(FileError::Refused("this is not allowed for this file of a game server".to_owned()))
        }
    }

    /// Whether clients are not shown it at all: what is hidden, and all that is in it.
    pub(super) fn hides(&self, path: &RelativePath) -> bool {
        let Self::Listed { hidden, .. } = self else { return false };
        path.as_path().ancestors().any(|path| hidden.is_match(path))
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet, globset::Error> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(GlobBuilder::new(pattern).literal_separator(true).build()?);
    }
    set.build()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contract() -> Policy {
        let list = |globs: &[&str]| globs.iter().map(|&glob| glob.to_owned()).collect();
        let access = FileAccess {
            write: list(&["server.properties", "config/*.{toml,json,properties}"]),
            upload: list(&["mods/*.jar", "world/datapacks/*.zip"]),
            delete: list(&["mods-removed/*", "mods-uploaded/*", "logs/*.{log,log.gz}"]),
            hidden: list(&[".zlh_metadata.json", ".zlh-shadow"]),
        };
        Policy::listed(&access).unwrap()
    }

    #[test]
    fn of_a_game_server_only_what_is_listed() {
        let policy = contract();
        for (act, yes, no) in [
            (
                Act::Write,
                &["server.properties", "config/a.toml", "config/a.json", "config/b.properties"][..],
                &["eula.txt", "config/a.sh", "config/x/a.toml", "a/server.properties"][..],
            ),
            (
                Act::Upload,
                &["mods/a.jar", "world/datapacks/a.zip"],
                &["a.jar", "mods/a.zip", "mods/x/a.jar", "mods/a.jar.sh", "datapacks/a.zip"],
            ),
            (
                Act::Delete,
                &["mods-removed/a", "mods-uploaded/a.jar", "logs/a.log", "logs/a.log.gz"],
                &["mods-removed", "mods/a.jar", "logs", "logs/latest.txt", "world/level.dat"],
            ),
            (Act::Arrange, &[], &["config/a.toml", "mods/a.jar", "x"]),
            (
                Act::Read,
                &["", "world/level.dat", "a/.zlh-shadow"],
                &[".zlh_metadata.json", ".zlh-shadow", ".zlh-shadow/a"],
            ),
        ] {
            for (paths, allowed) in [(yes, true), (no, false)] {
                for path in paths {
                    let parsed = RelativePath::parse(path).unwrap();
                    assert_eq!(policy.check(act, &parsed).is_ok(), allowed, "{act:?} {path}");
                }
            }
        }
        let path = RelativePath::parse("anything").unwrap();
        assert!(Policy::Workspace.check(Act::Arrange, &path).is_ok());
    }
}
