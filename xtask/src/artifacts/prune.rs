//! Removes from a staged tree what is surely not needed to run it here.

use std::env::consts::ARCH;
use std::fs;
use std::path::Path;

use super::pack::size_of;
use crate::shell::{megabytes, note};

/// Names of operating systems in the folders of prebuilt programs, as in `win32-x64`.
const SYSTEMS: &[&str] =
    &["aix", "android", "darwin", "freebsd", "linux", "linuxmusl", "openbsd", "sunos", "win32"];
/// Left behind by compilers, and only read by debuggers or by other systems.
const SUFFIXES: &[&str] = &["dll", "exe", "map", "pdb"];
/// What node-gyp leaves beside the modules that it built.
const LEFTOVERS: &[&str] = &[".deps", "obj", "obj.target"];

/// Removes other platforms' programs, source maps, and what compilers left behind.
pub(super) fn prune(stage: &Path) -> anyhow::Result<()> {
    let before = size_of(stage)?;
    prune_folder(stage)?;
    let after = size_of(stage)?;
    note(&format!("{}: {}, pruned to {}", stage.display(), megabytes(before), megabytes(after)));
    Ok(())
}

fn prune_folder(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let kind = entry.file_type()?;
        if kind.is_dir() {
            if is_for_another_platform(&name, folder) || is_leftover(&name, folder) {
                fs::remove_dir_all(&path)?;
            } else {
                prune_folder(&path)?;
            }
        } else if kind.is_file()
            && path.extension().is_some_and(|suffix| SUFFIXES.iter().any(|other| suffix == *other))
        {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// `bin/win32-x64`, `prebuilds/linux-arm64`, `bin/arm64`: one folder per platform, of which one is ours.
fn is_for_another_platform(name: &str, parent: &Path) -> bool {
    if !(parent.ends_with("bin") || parent.ends_with("prebuilds")) {
        return false;
    }
    let ours = if ARCH == "aarch64" { "arm64" } else { "x64" };
    match name.split_once('-') {
        Some((system, arch)) if SYSTEMS.contains(&system) => system != "linux" || arch != ours,
        Some(_) => false,
        None => matches!(name, "arm64" | "x64") && name != ours,
    }
}

fn is_leftover(name: &str, parent: &Path) -> bool {
    parent.ends_with("build/Release") && LEFTOVERS.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_prebuilt_programs_are_judged_by_their_name() {
        let bin = Path::new("modules/ripgrep/bin");
        for name in ["win32-x64", "darwin-arm64", "linux-s390x"] {
            assert!(is_for_another_platform(name, bin), "{name}");
        }
        assert!(!is_for_another_platform("remote-cli", bin));
        assert!(!is_for_another_platform("darwin-arm64", Path::new("modules/ripgrep/lib")));
        let ours = if ARCH == "aarch64" { "linux-arm64" } else { "linux-x64" };
        assert!(!is_for_another_platform(ours, Path::new("modules/pty/prebuilds")));
    }
}
