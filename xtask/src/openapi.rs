//! `cargo xtask openapi`: writes docs/openapi.json.

use anyhow::{Context as _, bail};

use crate::shell::{cargo, phase};
use crate::workspace::Workspace;

/// Writes the document that the components' code makes.
///
/// # Errors
/// When it cannot be built or written.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    phase("Describing the API");
    let mut command = cargo();
    command.args(["run", "--quiet", "--package", "zlh-openapi"]).current_dir(&workspace.root);
    let output = command.output().context("could not start cargo")?;
    if !output.status.success() {
        bail!("the document was not made:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    let path = workspace.root.join("docs/openapi.json");
    std::fs::write(&path, output.stdout).with_context(|| format!("cannot write {}", path.display()))
}
