//! The rules about names, stanzas and who may depend on whom (docs/architecture.md).

use std::collections::BTreeSet;
use std::fs;

use anyhow::{Context as _, bail};

use crate::workspace::{Package, Workspace};

/// Packages that nothing in `crates` may use.
const PROGRAMS: &[&str] = &["zlh-host-proxy", "zlh-agent"];

/// Checks all of them.
///
/// # Errors
/// With every violation, one a line.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<()> {
    let mut violations = names(workspace)?;
    violations.extend(directions(workspace));
    if violations.is_empty() {
        return Ok(());
    }
    bail!("the layout is not what it should be:\n  {}", violations.join("\n  "));
}

/// A component's folder, package, spin.toml id, file and contract test have one name.
fn names(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let manifest = workspace.manifest()?;
    let contract = workspace.root.join("tests/contract/main.rs");
    let contract = fs::read_to_string(&contract)
        .with_context(|| format!("could not read {}", contract.display()))?;

    let folders = component_folders(workspace)?;
    let mut violations = Vec::new();
    for name in &folders {
        let package = workspace.packages.get(name).and_then(Package::folder);
        if package != Some(workspace.root.join("components").join(name).as_path()) {
            violations.push(format!("components/{name}: its package is not called `{name}`"));
        }
        if !manifest.component.contains_key(name) {
            violations.push(format!("components/{name}: spin.toml has no [component.{name}]"));
        }
        if !declares_module(&contract, &name.replace('-', "_")) {
            violations
                .push(format!("components/{name}: tests/contract/main.rs has no `mod {name}`"));
        }
    }
    for (id, component) in &manifest.component {
        let Some(source) = component.source.as_str() else { continue };
        if !folders.contains(id) {
            violations.push(format!("spin.toml: [component.{id}] has no folder components/{id}"));
        }
        let expected = format!("target/wasm32-wasip2/release/{}.wasm", id.replace('-', "_"));
        if source != expected {
            violations.push(format!(
                "spin.toml: [component.{id}] has the source {source}, not {expected}"
            ));
        }
    }
    Ok(violations)
}

/// Depends on every component, to describe them.
const DESCRIPTION: &str = "zlh-openapi";

/// Nothing depends on a component, and shared crates do not depend on programs. Tests may.
fn directions(workspace: &Workspace) -> Vec<String> {
    let components = workspace.root.join("components");
    let crates = workspace.root.join("crates");
    let mut violations = Vec::new();
    for (name, package) in &workspace.packages {
        let shared = package.folder().is_some_and(|folder| folder.starts_with(&crates));
        for dependency in package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind.as_deref() != Some("dev"))
        {
            let component =
                dependency.path.as_ref().is_some_and(|path| path.starts_with(&components));
            if component && name != DESCRIPTION {
                violations.push(format!("{name} depends on the component {}", dependency.name));
            }
            if shared && PROGRAMS.contains(&dependency.name.as_str()) {
                violations.push(format!("{name} is shared and depends on {}", dependency.name));
            }
        }
    }
    violations
}

fn component_folders(workspace: &Workspace) -> anyhow::Result<BTreeSet<String>> {
    let components = workspace.root.join("components");
    let mut folders = BTreeSet::new();
    for entry in fs::read_dir(&components)
        .with_context(|| format!("could not list {}", components.display()))?
    {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            folders.insert(entry.file_name().to_string_lossy().into_owned());
        }
    }
    Ok(folders)
}

fn declares_module(source: &str, name: &str) -> bool {
    source.lines().any(|line| line.trim() == format!("mod {name};"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_is_commented_out_is_not_declared() {
        assert!(declares_module("mod a;\nmod auth;\n", "auth"));
        assert!(!declares_module("// mod auth;\nmod auth_more;\n", "auth"));
    }
}
