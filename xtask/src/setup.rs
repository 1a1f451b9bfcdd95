//! Installs what building and testing need and what is missing here.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

use crate::shell::{self, note, phase};
use crate::workspace::Workspace;

/// What the components are compiled for; rust-toolchain.toml names it too.
pub(crate) const WASM_TARGET: &str = "wasm32-wasip2";

/// A program, and the Debian package that brings it.
struct Tool {
    program: &'static str,
    package: &'static str,
}

/// Compiles code-server's native modules and runs npm.
const ARTIFACT_TOOLS: &[Tool] = &[
    Tool { program: "node", package: "nodejs" },
    Tool { program: "npm", package: "npm" },
    Tool { program: "krb5-config", package: "libkrb5-dev" },
    Tool { program: "python3", package: "python3" },
    Tool { program: "make", package: "make" },
    Tool { program: "c++", package: "g++" },
];

/// The real browser of the browser tests, and the databases of those on PostgreSQL and Redis: the tests start
/// servers of their own, and Debian's need not run. systemd need not either: it checks its units.
const TEST_TOOLS: &[Tool] = &[
    Tool { program: "postgres", package: "postgresql" },
    Tool { program: "redis-server", package: "redis-server" },
    Tool { program: "systemd-analyze", package: "systemd" },
    Tool { program: "chromium", package: "chromium" },
    Tool { program: "chromedriver", package: "chromium-driver" },
];

/// Adds the wasm target to the toolchain if it is missing.
///
/// # Errors
/// When it is missing and rustup cannot add it.
pub(crate) fn wasm_target() -> anyhow::Result<()> {
    let libraries = shell::output(Command::new("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        WASM_TARGET,
    ]))?;
    if Path::new(libraries.trim()).is_dir() {
        return Ok(());
    }
    phase(&format!("Adding the Rust target {WASM_TARGET}"));
    shell::run(Command::new("rustup").args(["target", "add", WASM_TARGET])).with_context(|| {
        format!("the Rust target {WASM_TARGET} is missing; install it with `rustup target add {WASM_TARGET}`")
    })
}

/// What `cargo xtask artifacts` needs.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn artifact_tools() -> anyhow::Result<()> {
    debian(ARTIFACT_TOOLS)
}

/// What the tests need besides.
///
/// # Errors
/// When something is missing and cannot be installed.
pub(crate) fn test_tools() -> anyhow::Result<()> {
    debian(TEST_TOOLS)
}

/// schemathesis, in a Python environment of its own below `target` of the repository, where the tests look.
///
/// # Errors
/// When Python is missing and cannot be installed, or pip fails.
pub(crate) fn schemathesis(workspace: &Workspace) -> anyhow::Result<()> {
    const VERSIONS: &str = "requirements.txt";

    let folder = workspace.root.join("target/schemathesis");
    let wanted = workspace.root.join("tests/description").join(VERSIONS);
    let wanted_text = fs::read_to_string(&wanted)
        .with_context(|| format!("could not read {}", wanted.display()))?;
    // Written last.
    let installed = folder.join(VERSIONS);
    if fs::read_to_string(&installed).is_ok_and(|text| text == wanted_text) {
        return Ok(());
    }
    let probe = Command::new("python3").args(["-c", "import ensurepip, venv"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        install(&["python3", "python3-venv"])?;
    }

    phase("Installing schemathesis with pip");
    shell::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
    let mut pip = Command::new(folder.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    shell::run(pip.arg(&wanted))?;
    fs::write(&installed, wanted_text)
        .with_context(|| format!("could not write {}", installed.display()))
}

fn debian(tools: &[Tool]) -> anyhow::Result<()> {
    let missing: Vec<&str> =
        tools.iter().filter(|tool| !is_installed(tool.program)).map(|tool| tool.package).collect();
    install(&missing)
}

/// Installs Debian packages, or says which are missing.
fn install(missing: &[&str]) -> anyhow::Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let packages = missing.join(" ");
    let install = format!("apt-get install -y --no-install-recommends {packages}");
    if shell::which("apt-get").is_none() {
        bail!("these programs are missing, named as Debian's packages: {packages}");
    }
    if !is_root()? {
        bail!("some programs are missing; install them with `sudo {install}`");
    }

    phase(&format!("Installing Debian packages: {packages}"));
    let apt = || {
        let mut command = Command::new("apt-get");
        command.env("DEBIAN_FRONTEND", "noninteractive");
        command
    };
    let arguments = ["install", "-y", "--no-install-recommends"];
    if shell::run(apt().args(arguments).args(missing)).is_err() {
        note("trying again with fresh package lists");
        shell::run(apt().arg("update"))?;
        shell::run(apt().args(arguments).args(missing))
            .with_context(|| format!("install them with `{install}`"))?;
    }
    Ok(())
}

/// Whether a program is on PATH, or where Debian keeps PostgreSQL's: in a folder for each version.
fn is_installed(program: &str) -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut elsewhere = versions.map(|version| version.path().join("bin").join(program));
    shell::which(program).is_some() || elsewhere.any(|path| path.is_file())
}

/// Whether this is root.
///
/// # Errors
/// When `id` does not answer.
pub(crate) fn is_root() -> anyhow::Result<bool> {
    Ok(shell::output(Command::new("id").arg("-u"))?.trim() == "0")
}
