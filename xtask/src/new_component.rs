//! `cargo xtask new-component`: a folder, a stanza, a contract test; what comes out compiles and passes.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::shell::{note, phase};
use crate::workspace::Workspace;

/// Where each file goes, and what is in it.
const FILES: [(&str, &str); 5] = [
    ("components/{{name}}/Cargo.toml", include_str!("../templates/component/Cargo.toml.template")),
    ("components/{{name}}/src/lib.rs", include_str!("../templates/component/lib.rs.template")),
    ("components/{{name}}/src/entry.rs", include_str!("../templates/component/entry.rs.template")),
    (
        "components/{{name}}/src/routes.rs",
        include_str!("../templates/component/routes.rs.template"),
    ),
    ("tests/contract/{{module}}.rs", include_str!("../templates/component/contract.rs.template")),
];
/// What is added at the end of spin.toml.
const STANZA: &str = include_str!("../templates/component/spin.toml.template");

/// Writes the component.
///
/// # Errors
/// When the name is taken or is none, or a file cannot be written.
pub(crate) fn run(workspace: &Workspace, name: &str) -> anyhow::Result<()> {
    if !is_name(name) {
        bail!(
            "`{name}` is not a component's name: lower-case letters, digits and `-`, a letter first"
        );
    }
    if workspace.packages.contains_key(name) || workspace.manifest()?.component.contains_key(name) {
        bail!("`{name}` exists already");
    }

    phase(&format!("Writing the component {name}"));
    for (path, template) in FILES {
        write(&workspace.root.join(fill(path, name)), &fill(template, name))?;
    }
    let manifest = workspace.root.join("spin.toml");
    let text = fs::read_to_string(&manifest).context("could not read spin.toml")?;
    write(&manifest, &(text + &fill(STANZA, name)))?;
    let contract = workspace.root.join("tests/contract/main.rs");
    let text = fs::read_to_string(&contract).context("could not read tests/contract/main.rs")?;
    write(&contract, &with_module(&text, &module(name))?)?;
    note("add its routes to the table in tests/contract/token_kinds.rs, then `cargo xtask test`");
    Ok(())
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_lowercase())
        && name
            .chars()
            .all(|letter| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-')
}

/// The name as Rust's, and the compiled file's.
fn module(name: &str) -> String {
    name.replace('-', "_")
}

fn fill(template: &str, name: &str) -> String {
    template.replace("{{name}}", name).replace("{{module}}", &module(name))
}

fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, text).with_context(|| format!("could not write {}", path.display()))?;
    note(&format!("wrote {}", path.display()));
    Ok(())
}

/// The source with one more module declared, in alphabetical order.
fn with_module(source: &str, module: &str) -> anyhow::Result<String> {
    let declared = |line: &str| line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned);
    let mut lines: Vec<String> = source.lines().map(str::to_owned).collect();
    let last = lines
        .iter()
        .rposition(|line| declared(line).is_some())
        .context("no module is declared there")?;
    let at =
        lines.iter().position(|line| declared(line).is_some_and(|other| other.as_str() > module));
    lines.insert(at.unwrap_or(last + 1), format!("mod {module};"));
    Ok(lines.join("\n") + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_declared_in_order() {
        let source = "//! Doc.\n\nmod auth;\nmod dev;\n\nuse a::b;\n";

        assert_eq!(
            with_module(source, "billing").unwrap(),
            "//! Doc.\n\nmod auth;\nmod billing;\nmod dev;\n\nuse a::b;\n"
        );
        assert_eq!(
            with_module(source, "files").unwrap(),
            "//! Doc.\n\nmod auth;\nmod dev;\nmod files;\n\nuse a::b;\n"
        );
    }

    #[test]
    fn spins_own_braces_are_kept() {
        let stanza = fill(STANZA, "mail-http");

        assert!(stanza.contains("allowed_origins = \"{{ allowed_origins }}\""), "{stanza}");
        assert!(stanza.contains("release/mail_http.wasm"), "{stanza}");
        assert!(!stanza.contains("{{name}}") && !stanza.contains("{{module}}"), "{stanza}");
    }

    #[test]
    fn a_name_that_cargo_or_spin_refuse_is_refused() {
        for name in ["", "Mail", "mail_http", "9mail", "-mail", "mail/http", "../x"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("mail-http2"));
    }
}
