//! What containers are made of: the artifact store and the agent.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::process::Command;
use zlh_agent_protocol::artifact::{
    Artifact, CODE_SERVER_ADDON, DEV_CATALOG_PATH, DevCatalog, GAME_CATALOG_PATH,
};
use zlh_agent_protocol::game::GameCatalog;

use super::Verdict;
use crate::config::Config;

/// It only prints a line.
const AGENT_TIMEOUT: Duration = Duration::from_secs(5);

const MAKE: &str = "make the store (`cargo xtask artifacts`), or name another with `--artifacts`";

pub(super) async fn store(config: &Config) -> Verdict {
    let folder = &config.artifacts;
    if !folder.is_dir() {
        return match &config.artifact_url {
            Some(url) => Verdict::ok(format!("not here: containers fetch them from {url}")),
            None => Verdict::wrong(format!("there is no folder {}", folder.display()), MAKE),
        };
    }
    match judge(folder) {
        Ok(text) => Verdict::ok(format!("{} has {text}", folder.display())),
        Err(text) => Verdict::wrong(text, MAKE),
    }
}

/// Whether both catalogues are there, and each file that they list, in its size. Hashes are checked when a
/// file is installed: there may be hundreds of gigabytes.
fn judge(folder: &Path) -> Result<String, String> {
    let dev: DevCatalog = catalog(folder, DEV_CATALOG_PATH)?;
    let games: GameCatalog = catalog(folder, GAME_CATALOG_PATH)?;
    if dev.addon(CODE_SERVER_ADDON).is_none() {
        return Err(format!("`{DEV_CATALOG_PATH}` has no add-on `{CODE_SERVER_ADDON}`"));
    }
    let packages = dev.runtimes.iter().chain(&dev.addons).flat_map(|package| &package.versions);
    let artifacts: Vec<&Artifact> = packages.chain(games.artifacts()).collect();
    for artifact in &artifacts {
        let path = folder.join(&artifact.path);
        match fs::metadata(&path) {
            Ok(file) if file.len() == artifact.size_bytes => {}
            Ok(file) => {
                return Err(format!(
                    "{} has {} bytes, and its catalogue says {}",
                    path.display(),
                    file.len(),
                    artifact.size_bytes
                ));
            }
            Err(error) => return Err(format!("{}: {error}", path.display())),
        }
    }
    Ok(format!("both catalogues and {} artifacts", artifacts.len()))
}

fn catalog<T: DeserializeOwned>(folder: &Path, path: &str) -> Result<T, String> {
    let path = folder.join(path.trim_start_matches('/'));
    let text = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    serde_json::from_slice(&text)
        .map_err(|error| format!("{} is not a catalogue: {error}", path.display()))
}

pub(super) async fn agent(config: &Config) -> Verdict {
    let program = &config.node.agent_binary;
    let shown = program.display();
    let remedy = "put zlh-agent beside zlh, or name it with `ZLH_AGENT_BINARY`";
    let mut command =
        Command::new(std::path::absolute(program).unwrap_or_else(|_| program.clone()));
    command.arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
    let output = match tokio::time::timeout(AGENT_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            return Verdict::wrong(format!("{shown} cannot be started: {error}"), remedy);
        }
        Err(_) => {
            return Verdict::wrong(format!("{shown} does not answer `--version`"), remedy);
        }
    };
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if !output.status.success() || !said.starts_with("zlh-agent ") {
        return Verdict::wrong(format!("{shown} is not the agent"), remedy);
    }
    match said == concat!("zlh-agent ", env!("CARGO_PKG_VERSION")) {
        true => Verdict::ok(format!("{shown} is {said}")),
        false => Verdict::warn(format!(
            "{shown} is {said}, and this is zlh {}",
            env!("CARGO_PKG_VERSION")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store_of(folder: &Path) {
        let dev = r#"{"runtimes":[],"addons":[{"id":"codeserver","versions":[{"version":"1",
            "path":"devcontainer/a.tar.gz","sha256":"00","sizeBytes":3,"unpackedBytes":9,
            "program":"bin/code-server"}]}]}"#;
        fs::create_dir(folder.join("devcontainer")).unwrap();
        fs::write(folder.join("devcontainer/_catalog.json"), dev).unwrap();
        fs::write(folder.join("_catalog.json"), r#"{"games":[]}"#).unwrap();
        fs::write(folder.join("devcontainer/a.tar.gz"), "abc").unwrap();
    }

    #[test]
    fn an_artifact_that_is_missing_or_cut_off_is_named() {
        let folder = tempfile::tempdir().unwrap();
        store_of(folder.path());
        let file = folder.path().join("devcontainer/a.tar.gz");

        assert_eq!(judge(folder.path()).unwrap(), "both catalogues and 1 artifacts");
        fs::write(&file, "ab").unwrap();
        assert!(judge(folder.path()).unwrap_err().contains("has 2 bytes"));
        fs::remove_file(&file).unwrap();
        assert!(judge(folder.path()).unwrap_err().contains("a.tar.gz"));
        fs::remove_file(folder.path().join("_catalog.json")).unwrap();
        assert!(judge(folder.path()).unwrap_err().contains("_catalog.json"));
    }
}
