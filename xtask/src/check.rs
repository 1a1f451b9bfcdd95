//! `cargo xtask check`: everything that can be said about the code without running it.

use crate::setup::WASM_TARGET;
use crate::shell::{self, phase};
use crate::workspace::Workspace;
use crate::{layout, setup};

/// Format, layout, clippy natively and for wasm (each hides the other's code), docs.
///
/// # Errors
/// With the first that fails.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    setup::wasm_target()?;

    phase("Checking the format");
    shell::run(shell::cargo().args(["fmt", "--all", "--check"]).current_dir(&workspace.root))?;

    phase("Checking names, stanzas and the direction of dependencies");
    layout::check(workspace)?;

    phase("Clippy, natively");
    let clippy = ["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"];
    shell::run(shell::cargo().args(clippy).current_dir(&workspace.root))?;

    phase(&format!("Clippy, for {WASM_TARGET}"));
    let mut clippy = shell::cargo();
    clippy.args(["clippy", "--lib", "--target", WASM_TARGET]).current_dir(&workspace.root);
    for folder in ["components", "crates", "tests/components"] {
        for package in workspace.packages_in(folder) {
            clippy.args(["--package", &package]);
        }
    }
    shell::run(clippy.args(["--", "--deny", "warnings"]))?;

    phase("Building the documentation");
    let doc = ["doc", "--workspace", "--no-deps", "--document-private-items"];
    shell::run(
        shell::cargo()
            .args(doc)
            // Private items are documented too, so links to them lead somewhere.
            .env("RUSTDOCFLAGS", "--deny warnings --allow rustdoc::private-intra-doc-links")
            .current_dir(&workspace.root),
    )
}
