//! The manifest, the files that it names, and what they are run on.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use tempfile::TempDir;

use super::{Verdict, chain};
use crate::app::host_options;
use crate::component_host::{AllowListError, HostError, probe};
use crate::config::Config;
use crate::data_dir::DataDir;
use crate::secrets::Secrets;
use crate::variables::{Surroundings, component_variables};

pub(super) async fn runtime_config(config: &Config) -> Verdict {
    let Some(path) = config.runtime_config.as_deref() else {
        return Verdict::ok("none: stores are in the data folder");
    };
    let found = match probe::runtime_config(Some(path)) {
        Ok(found) => found,
        Err(error) => {
            return Verdict::wrong(
                chain(&error),
                "correct the file, or name another with `--runtime-config`; docs/operations.md has its keys",
            );
        }
    };
    match unwritable(&found.files) {
        None => Verdict::ok(format!("{} defines {}", path.display(), list(&found.labels))),
        Some((file, error)) => Verdict::wrong(
            format!("{} cannot be written: {error}", file.display()),
            "run zlh as the file's owner, or correct the path in the runtime configuration",
        ),
    }
}

/// The first file that a start could neither open nor make.
fn unwritable(files: &[PathBuf]) -> Option<(&Path, io::Error)> {
    let writable = |path: &Path| match fs::File::options().append(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let above = std::path::absolute(path)?;
            let folder = above.ancestors().skip(1).find(|folder| folder.exists());
            let folder = folder.ok_or(io::ErrorKind::NotFound)?;
            Ok(rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK)?)
        }
        opened => opened.map(drop),
    };
    files.iter().find_map(|path| Some((path.as_path(), writable(path).err()?)))
}

pub(super) async fn allow_list(config: &Config) -> Verdict {
    let Some(options) = &config.component_allow_list else {
        return Verdict::ok("none: any component file may run");
    };
    match probe::allow_list(options) {
        Ok(()) => Verdict::ok(format!("{} is signed", options.path.display())),
        Err(error) => Verdict::wrong(
            chain(&error),
            "sign the list again (`minisign -Sm`), or correct `ZLH_COMPONENT_ALLOW_LIST` and its `_KEY`",
        ),
    }
}

pub(super) async fn load(config: &Config) -> Verdict {
    match try_load(config).await {
        Ok(components) => {
            Verdict::ok(format!("{} serves {}", config.manifest.display(), list(&components)))
        }
        Err(Failed::Host(error)) => judge(&error),
        Err(Failed::Scratch(error)) => Verdict::wrong(
            format!("components cannot be tried: {error}"),
            "make room in the folder for temporary files (`TMPDIR`)",
        ),
    }
}

fn judge(error: &HostError) -> Verdict {
    let remedy = match error {
        // Its own check says more.
        HostError::ReadRuntimeConfig { .. } | HostError::RuntimeConfig { .. } => {
            return Verdict::warn("not tried, because the runtime configuration is wrong");
        }
        HostError::AllowList(AllowListError::Unlisted { .. }) => {
            "add the file's line to the allow-list and sign it again"
        }
        HostError::AllowList(_) => {
            return Verdict::warn("not tried, because the allow-list is wrong");
        }
        HostError::ReadManifest { .. } => "name the manifest with `--manifest`",
        HostError::Manifest { .. } => "correct the key in the manifest",
        HostError::KeyValueStore { .. } => "correct its `url` in the runtime configuration",
        HostError::Compose { .. } | HostError::Component { .. } => {
            "build the components (`cargo xtask build`), or correct `source` in the manifest; \
             one that was swapped goes back with `zlh component rollback`"
        }
        HostError::Files { .. } => "correct `files` in the manifest",
        HostError::State { .. } => "make room, and run zlh as the owner of its data folder",
        HostError::Engine(_) => "allow more address space (`ulimit -v`) or memory",
    };
    Verdict::wrong(chain(error), remedy)
}

enum Failed {
    Host(HostError),
    Scratch(Box<dyn std::error::Error + Send + Sync>),
}

/// Loads the components as a start would, beside the data folder, and answers their names.
async fn try_load(config: &Config) -> Result<Vec<String>, Failed> {
    let scratch = |error: io::Error| Failed::Scratch(error.into());
    let folder = TempDir::new().map_err(scratch)?;
    let data = DataDir::open(folder.path(), &[]).map_err(|e| Failed::Scratch(e.into()))?;
    let secrets = Secrets::open(&data).map_err(|e| Failed::Scratch(e.into()))?;
    let state = data.path("state");
    borrow_state(&config.data_dir.join("state"), &state).map_err(scratch)?;
    let surroundings = Surroundings::configured(config, None);
    let variables = component_variables(config, &secrets, &surroundings);
    let host = probe::load(host_options(config, state, variables)).await.map_err(Failed::Host)?;
    let names = host.component_names();
    host.shutdown().await;
    Ok(names)
}

/// Lets a second state folder have the swapped components of the first, and its compiled code.
fn borrow_state(from: &Path, to: &Path) -> io::Result<()> {
    let copy = |name: &str| match fs::copy(from.join(name), to.join(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        copied => copied.map(drop),
    };
    copy("components.json")?;
    if let Ok(files) = fs::read_dir(from.join("components")) {
        fs::create_dir(to.join("components"))?;
        for file in files {
            copy(&format!("components/{}", file?.file_name().to_string_lossy()))?;
        }
    }
    // What is compiled now is kept, unless its owner could not read it.
    let compiled = from.join("compiled");
    let ours = |owner: u32| owner == rustix::process::geteuid().as_raw();
    if fs::metadata(&compiled).is_ok_and(|metadata| ours(metadata.uid())) {
        std::os::unix::fs::symlink(std::path::absolute(&compiled)?, to.join("compiled"))?;
    }
    Ok(())
}

fn list(names: &[String]) -> String {
    match names {
        [] => "nothing".to_owned(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_components_and_compiled_code_are_borrowed() {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        borrow_state(&from.path().join("missing"), to.path()).unwrap();
        fs::write(from.path().join("components.json"), "{}").unwrap();
        for name in ["components", "compiled"] {
            fs::create_dir(from.path().join(name)).unwrap();
            fs::write(from.path().join(name).join("a"), "code").unwrap();
        }

        borrow_state(from.path(), to.path()).unwrap();

        assert_eq!(fs::read(to.path().join("components.json")).unwrap(), b"{}");
        assert_eq!(fs::read(to.path().join("components/a")).unwrap(), b"code");
        assert_eq!(fs::read(to.path().join("compiled/a")).unwrap(), b"code");
        assert!(!to.path().join("components").is_symlink());
    }
}
