//! The files that a guest sees: what `files` of its stanza names, copied into one folder when the component
//! is loaded and mounted read-only at `/`, as in Spin.

use std::fs;
use std::path::{Component as Part, Path, PathBuf};

use glob::Pattern;
use thiserror::Error;

use super::manifest::{Component, FileMount};

/// Why the files of a component could not be put together.
#[derive(Debug, Error)]
pub enum FilesError {
    /// It would lie outside the folder of the manifest, or of the guest.
    #[error("`{0}` is not a path below the folder of the manifest")]
    Outside(String),
    /// It ends in a folder that it does not name.
    #[error("a file pattern can't end in `.` or `..`: `{0}`; use the source-destination form")]
    Dots(String),
    /// There is nothing of that name.
    #[error("{0:?} does not exist and doesn't appear to be a glob pattern")]
    Missing(String),
    /// It is not a pattern.
    #[error("`{pattern}` is not a glob pattern")]
    Pattern {
        /// What was written.
        pattern: String,
        /// What is wrong with it.
        #[source]
        source: glob::PatternError,
    },
    /// A file could not be copied.
    #[error("cannot copy {}", path.display())]
    Copy {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
}

/// Copies the files of a component from `app`, the manifest's folder, into `folder`, which is emptied
/// first. Blocks.
pub(crate) fn assemble(component: &Component, app: &Path, folder: &Path) -> Result<(), FilesError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(FilesError::Copy { path: folder.to_owned(), source: error });
        }
        _ => {}
    }
    let excluded = component
        .exclude_files
        .iter()
        .map(|pattern| {
            Pattern::new(pattern)
                .map_err(|source| FilesError::Pattern { pattern: pattern.clone(), source })
        })
        .collect::<Result<_, _>>()?;
    let copier = Copier { app, folder, excluded };
    create(folder)?;
    component.files.iter().try_for_each(|mount| copier.mount(mount))
}

struct Copier<'a> {
    app: &'a Path,
    folder: &'a Path,
    excluded: Vec<Pattern>,
}

impl Copier<'_> {
    fn mount(&self, mount: &FileMount) -> Result<(), FilesError> {
        match mount {
            FileMount::Pattern(pattern) => self.pattern(pattern),
            FileMount::Placement { source, destination } => {
                let from = self.app.join(below(source)?);
                let to = self.folder.join(below(destination.trim_start_matches('/'))?);
                if from.is_dir() {
                    self.tree(&from.join("**/*"), &from, &to)
                } else {
                    copy(&from, &to)
                }
            }
        }
    }

    fn pattern(&self, pattern: &str) -> Result<(), FilesError> {
        if matches!(pattern.rsplit('/').next(), Some("." | "..")) {
            return Err(FilesError::Dots(pattern.to_owned()));
        }
        let path = self.app.join(below(pattern)?);
        if path.is_dir() {
            self.tree(&path.join("**/*"), self.app, self.folder)
        } else if path.exists() {
            copy(&path, &self.folder.join(pattern))
        } else if pattern.contains(['*', '?', '[']) {
            self.tree(&path, self.app, self.folder)
        } else {
            Err(FilesError::Missing(pattern.to_owned()))
        }
    }

    /// Copies the files that match `pattern`, each under its path below `prefix`.
    fn tree(&self, pattern: &Path, prefix: &Path, to: &Path) -> Result<(), FilesError> {
        let text = pattern.to_string_lossy();
        let paths = glob::glob(&text)
            .map_err(|source| FilesError::Pattern { pattern: text.to_string(), source })?;
        for path in paths {
            let path = path.map_err(|error| FilesError::Copy {
                path: error.path().to_owned(),
                source: error.into(),
            })?;
            let (Ok(in_app), Ok(relative)) =
                (path.strip_prefix(self.app), path.strip_prefix(prefix))
            else {
                return Err(FilesError::Outside(path.display().to_string()));
            };
            if path.is_file() && !self.excluded.iter().any(|pattern| pattern.matches_path(in_app)) {
                copy(&path, &to.join(relative))?;
            }
        }
        Ok(())
    }
}

/// Refuses what leads out of the folder that it is relative to.
fn below(path: &str) -> Result<&Path, FilesError> {
    let relative = Path::new(path);
    if relative.components().all(|part| matches!(part, Part::Normal(_) | Part::CurDir)) {
        Ok(relative)
    } else {
        Err(FilesError::Outside(path.to_owned()))
    }
}

fn copy(from: &Path, to: &Path) -> Result<(), FilesError> {
    create(to.parent().unwrap_or(to))?;
    match fs::copy(from, to) {
        Ok(_) => Ok(()),
        Err(source) => Err(FilesError::Copy { path: from.to_owned(), source }),
    }
}

fn create(folder: &Path) -> Result<(), FilesError> {
    fs::create_dir_all(folder)
        .map_err(|source| FilesError::Copy { path: folder.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::component_host::manifest::App;

    /// What a guest sees of an application of six files, or the error.
    fn seen(files: &str) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        let app = folder.path().join("app");
        for name in ["a.txt", "b.md", "d/one.txt", "d/e/two.txt", "d/e/.hidden", "../secret"] {
            let path = app.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, name).unwrap();
        }
        let manifest = format!(
            "spin_manifest_version = 2\napplication = {{ name = 'a' }}\n\
             [component.x]\nsource = 'x'\n{files}"
        );
        let mut parsed = App::parse(&manifest, &app).unwrap();
        let component = parsed.components.remove("x").unwrap();
        let guest = folder.path().join("guest");
        fs::create_dir(&guest).unwrap();
        fs::write(guest.join("stale"), "").unwrap();

        assemble(&component, &app, &guest).map_err(|error| error.to_string())?;

        let pattern = format!("{}/**/*", guest.display());
        let paths = glob::glob(&pattern).unwrap().map(Result::unwrap).filter(|p| p.is_file());
        let relative = paths.map(|p| p.strip_prefix(&guest).unwrap().display().to_string());
        Ok(relative.collect())
    }

    #[test]
    fn a_pattern_is_a_file_a_folder_or_a_glob() {
        let all = Ok(["d/e/.hidden", "d/e/two.txt", "d/one.txt"].map(str::to_owned).to_vec());

        assert_eq!(seen("files = ['a.txt']"), Ok(vec!["a.txt".to_owned()]));
        assert_eq!(seen("files = ['d']"), all);
        assert_eq!(seen("files = ['*.md']"), Ok(vec!["b.md".to_owned()]));
        assert_eq!(
            seen("files = ['d/**/*.txt']"),
            Ok(["d/e/two.txt", "d/one.txt"].map(str::to_owned).to_vec())
        );
    }

    #[test]
    fn a_placement_is_found_at_its_destination() {
        let file = "files = [{ source = 'd/one.txt', destination = '/x/renamed' }]";
        let tree = "files = [{ source = 'd/e', destination = '/' }]";

        assert_eq!(seen(file), Ok(vec!["x/renamed".to_owned()]));
        assert_eq!(seen(tree), Ok([".hidden", "two.txt"].map(str::to_owned).to_vec()));
    }

    #[test]
    fn what_is_excluded_is_not_there() {
        let files = "files = ['d']\nexclude_files = ['d/**/two.*', '**/.*']";

        assert_eq!(seen(files), Ok(vec!["d/one.txt".to_owned()]));
    }

    #[test]
    fn what_is_missing_or_outside_is_named() {
        for (files, part) in [
            ("['nope']", "\"nope\" does not exist"),
            ("['../secret']", "`../secret` is not a path below"),
            ("['d/..']", "`d/..`"),
            ("['a[']", "`"),
            ("[{ source = '../secret', destination = '/s' }]", "`../secret`"),
            ("[{ source = '/etc/passwd', destination = '/s' }]", "`/etc/passwd`"),
            ("[{ source = 'a.txt', destination = '/../../s' }]", "`../../s`"),
            ("[{ source = 'nope', destination = '/s' }]", "nope"),
        ] {
            let error = seen(&format!("files = {files}")).unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }
}
