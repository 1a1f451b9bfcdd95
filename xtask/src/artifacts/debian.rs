//! Unpacks Debian packages beside each other, with everything that they depend on, without installing any.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};

use super::pack::size_of;
use crate::shell::{self, megabytes, note};

/// Written last: a folder without it was interrupted.
const DONE: &str = ".unpacked";
/// Every container has its own, and a libc works with no other kernel interface and loader than its own.
const NOT_BUNDLED: &str = "libc6";

/// Packages as they are once unpacked.
pub(super) struct Unpacked {
    /// What would be `/`.
    pub(super) root: PathBuf,
    /// Each package's version, as Debian writes it.
    versions: Vec<(String, String)>,
}

/// Whether packages can be fetched here.
pub(super) fn is_here() -> bool {
    ["apt-get", "dpkg-deb", "ldd"].iter().all(|program| shell::which(program).is_some())
}

/// Fetches and unpacks packages and what they depend on, unless that was done before.
pub(super) fn unpack(folder: &Path, packages: &[&str]) -> anyhow::Result<Unpacked> {
    fs::create_dir_all(folder)?;
    let versions = closure(folder, packages)?;
    let wanted: Vec<String> =
        versions.iter().map(|(name, version)| format!("{name}={version}")).collect();
    let (root, done) = (folder.join("root"), folder.join(DONE));
    let text = wanted.join("\n");
    if !fs::read_to_string(&done).is_ok_and(|unpacked| unpacked == text) {
        let archives = super::fresh(&folder.join("archives"))?;
        super::fresh(&root)?;
        note(&format!("{}: {} Debian packages", packages.join(" "), wanted.len()));
        shell::run(apt().args(["-qq", "download"]).args(&wanted).current_dir(&archives))
            .context("could not fetch Debian packages")?;
        for entry in fs::read_dir(&archives)? {
            let mut unpack = Command::new("dpkg-deb");
            shell::output(unpack.arg("--extract").arg(entry?.path()).arg(&root))?;
        }
        fs::remove_dir_all(&archives)?;
        note(&format!("unpacked {}", megabytes(size_of(&root)?)));
        fs::write(done, text)?;
    }
    Ok(Unpacked { root, versions })
}

impl Unpacked {
    /// The upstream part of a package's version: `13.0` of `1:13.0-2`.
    pub(super) fn upstream_version(&self, package: &str) -> anyhow::Result<&str> {
        let (_, version) = self
            .versions
            .iter()
            .find(|(name, _)| name == package)
            .with_context(|| format!("{package} is not among the unpacked packages"))?;
        let version = version.split_once(':').map_or(version.as_str(), |(_, rest)| rest);
        Ok(version.rsplit_once('-').map_or(version, |(upstream, _)| upstream))
    }

    /// Puts the libraries that a program is linked with into a folder, under the names that it asks for.
    pub(super) fn link_libraries(&self, program: &Path, into: &Path) -> anyhow::Result<()> {
        let folders = self.library_folders()?;
        let path = std::env::join_paths(&folders)?;
        let listed = shell::output(Command::new("ldd").arg(program).env("LD_LIBRARY_PATH", path))?;
        for line in listed.lines() {
            let Some((name, found)) = line.trim().split_once(" => ") else { continue };
            if found.starts_with("not found") {
                bail!("{} wants {name}, which no package has", program.display());
            }
            let file = Path::new(found.split(" (").next().unwrap_or(found));
            if file.starts_with(&self.root) {
                // Debian's names are links to files that are named more exactly.
                super::pack::link_file(&fs::canonicalize(file)?, &into.join(name))?;
            }
        }
        Ok(())
    }

    /// Every folder that has a shared library.
    fn library_folders(&self) -> anyhow::Result<BTreeSet<PathBuf>> {
        let mut folders = BTreeSet::new();
        let mut open = vec![self.root.join("lib"), self.root.join("usr/lib")];
        while let Some(folder) = open.pop() {
            let Ok(entries) = fs::read_dir(&folder) else { continue };
            for entry in entries {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    open.push(entry.path());
                } else if entry.file_name().to_string_lossy().contains(".so") {
                    folders.insert(folder.clone());
                }
            }
        }
        Ok(folders)
    }
}

/// Removes links that lead nowhere in the tree, such as those to documentation elsewhere: agents refuse an archive that
/// has one that leads out of it.
pub(super) fn remove_loose_links(tree: &Path) -> anyhow::Result<()> {
    let tree = fs::canonicalize(tree)?;
    let mut open = vec![tree.clone()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            let (path, kind) = (entry.path(), entry.file_type()?);
            if kind.is_dir() {
                open.push(path);
            } else if kind.is_symlink()
                && !fs::canonicalize(&path).is_ok_and(|target| target.starts_with(&tree))
            {
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
}

/// The packages and what they depend on, as apt would install them on a system that has nothing.
fn closure(folder: &Path, packages: &[&str]) -> anyhow::Result<Vec<(String, String)>> {
    let nothing = folder.join("nothing-installed");
    fs::write(&nothing, "")?;
    let simulate = || {
        let mut simulation = apt();
        simulation
            .arg("--simulate")
            .args(["-o", "Debug::NoLocking=1", "-o"])
            .arg(format!("Dir::State::status={}", nothing.display()))
            .args(["install", "--no-install-recommends"])
            .args(packages);
        shell::output(&mut simulation)
    };
    let simulated = match simulate() {
        Ok(simulated) => simulated,
        Err(_) => {
            note("trying again with fresh package lists");
            shell::run(apt().args(["-qq", "update"]))?;
            simulate()?
        }
    };
    let found: Vec<(String, String)> = simulated.lines().filter_map(installed).collect();
    if packages.iter().any(|package| found.iter().all(|(name, _)| name != package)) {
        bail!("apt-get would not install {}", packages.join(" "));
    }
    Ok(found.into_iter().filter(|(name, _)| name != NOT_BUNDLED).collect())
}

/// Name and version of `Inst openttd (13.0-2 Debian:12.12/oldstable [amd64])`.
fn installed(line: &str) -> Option<(String, String)> {
    let mut words = line.strip_prefix("Inst ")?.split(' ');
    let name = words.next()?;
    let version = words.next()?.strip_prefix('(')?;
    Some((name.to_owned(), version.to_owned()))
}

/// apt-get that may write where its user may.
fn apt() -> Command {
    let mut command = Command::new("apt-get");
    command.env("LC_ALL", "C").args(["-o", "APT::Sandbox::User=root"]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_simulated_installation_names_packages_and_versions() {
        let line = "Inst zlib1g (1:1.2.13.dfsg-1 Debian:12.12/oldstable [amd64]) []";
        assert_eq!(installed(line), Some(("zlib1g".to_owned(), "1:1.2.13.dfsg-1".to_owned())));
        assert_eq!(installed("Conf zlib1g (1:1.2.13.dfsg-1 Debian:12.12/oldstable [amd64])"), None);
    }

    #[test]
    fn links_that_lead_out_of_a_tree_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let tree = folder.path().join("tree");
        fs::create_dir_all(tree.join("sub")).unwrap();
        fs::write(folder.path().join("outside"), "text").unwrap();
        fs::write(tree.join("inside"), "text").unwrap();
        for (link, to) in [("out", "../../outside"), ("none", "missing"), ("in", "../inside")] {
            std::os::unix::fs::symlink(to, tree.join("sub").join(link)).unwrap();
        }

        remove_loose_links(&tree).unwrap();

        let left: Vec<_> = fs::read_dir(tree.join("sub")).unwrap().flatten().collect();
        assert_eq!(left.len(), 1);
        assert_eq!(left[0].file_name(), "in");
    }

    #[test]
    fn the_upstream_version_has_neither_epoch_nor_revision() {
        let packages = [("a", "1:1.2.13.dfsg-1"), ("b", "13.0-2"), ("c", "2.0")];
        let versions = packages.map(|(name, version)| (name.to_owned(), version.to_owned())).into();
        let unpacked = Unpacked { root: PathBuf::new(), versions };

        for (package, wanted) in [("a", "1.2.13.dfsg"), ("b", "13.0"), ("c", "2.0")] {
            assert_eq!(unpacked.upstream_version(package).unwrap(), wanted);
        }
        assert!(unpacked.upstream_version("d").is_err());
    }
}
