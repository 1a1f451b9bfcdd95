//! Builds the components and the programs.

use crate::setup::WASM_TARGET;
use crate::shell::{self, phase};
use crate::workspace::Workspace;

/// Builds the components that spin.toml names. They lie below `target` of the repository wherever else
/// cargo may build: that is where spin.toml looks for them.
///
/// # Errors
/// When spin.toml cannot be read or something does not compile.
pub(crate) fn components(workspace: &Workspace) -> anyhow::Result<()> {
    wasm(workspace, "components", &workspace.components()?)
}

/// Builds the components that only tests load.
///
/// # Errors
/// When something does not compile.
pub(crate) fn test_components(workspace: &Workspace) -> anyhow::Result<()> {
    wasm(workspace, "components of the tests", &workspace.packages_in("tests/components"))
}

/// A call of its own for each kind: packages that are built together share the features of what they use.
fn wasm(workspace: &Workspace, what: &str, components: &[String]) -> anyhow::Result<()> {
    phase(&format!(
        "Building {} {what} for {WASM_TARGET}: {}",
        components.len(),
        components.join(", ")
    ));
    let mut cargo = shell::cargo();
    cargo.args(["build", "--release", "--target", WASM_TARGET, "--target-dir"]);
    cargo.arg(workspace.root.join("target")).current_dir(&workspace.root);
    for component in components {
        cargo.args(["--package", component]);
    }
    shell::run(&mut cargo)
}

/// Builds `zlh` and `zlh-agent`.
///
/// # Errors
/// When something does not compile.
pub(crate) fn programs(workspace: &Workspace, release: bool) -> anyhow::Result<()> {
    phase("Building zlh and zlh-agent (the first time, this compiles wasmtime: some minutes)");
    let mut cargo = shell::cargo();
    cargo.args(["build", "--bins"]).current_dir(&workspace.root);
    if release {
        cargo.args(["--release", "--package", "zlh-host-proxy", "--package", "zlh-agent"]);
    } else {
        // Features of dependencies are those that the whole workspace asks for, as in tests: with others,
        // cargo would compile wasmtime a second time.
        cargo.arg("--workspace");
    }
    shell::run(&mut cargo)
}
