//! `zlh component new`: a crate of its own, with the WIT that it needs inside.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};

const MANIFEST: &str = include_str!("../../templates/component/Cargo.toml.template");
const HANDLER: &str = include_str!("../../templates/component/handler.rs.template");
const IDENTITY: &str = include_str!("../../templates/component/identity.rs.template");
const README: &str = include_str!("../../templates/component/README.md.template");
const WIT: &str = include_str!("../../../wit/zlh-identity/identity.wit");

const USE_HANDLER: &str = r#"Give it a route in `spin.toml`:

```toml
[[trigger.http]]
route = "/api/{{name}}/..."
component = "{{name}}"

[component.{{name}}]
source = "path/to/{{module}}.wasm"
[component.{{name}}.variables]
token_public_keys = "{{ token_public_keys }}"
[component.{{name}}.dependencies]
"zlh:identity@1.0.0" = { component = "identity", inherit_configuration = ["variables"] }
```

From then on a new build takes the old one's place while both run, as it would any other component's:
`zlh component swap {{name}} target/wasm32-wasip2/release/{{module}}.wasm`."#;

const USE_DEPENDENCY: &str =
    "Let it serve in the place of `identity`, in every component that is composed with it:
`zlh component swap identity target/wasm32-wasip2/release/{{module}}.wasm`, and back:
`zlh component rollback identity`. As it is, it lets nobody in.";

/// Writes it below the working folder, and answers what to do next.
pub(super) fn write(name: &str, dependency: bool) -> anyhow::Result<String> {
    if !is_name(name) {
        bail!("`{name}` is not a name: lower-case letters, digits and `-`, a letter first");
    }
    write_to(Path::new(name), name, dependency)?;
    Ok(format!("wrote {name}/; {name}/README.md says how it is built and used"))
}

fn write_to(folder: &Path, name: &str, dependency: bool) -> anyhow::Result<()> {
    fs::create_dir(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let (code, features, usage) = match dependency {
        true => (IDENTITY, r#", "variables""#, USE_DEPENDENCY),
        false => (HANDLER, "", USE_HANDLER),
    };
    let fill = |text: &str| {
        text.replace("{{use}}", usage)
            .replace("{{features}}", features)
            .replace("{{name}}", name)
            .replace("{{module}}", &name.replace('-', "_"))
    };
    for (path, text) in [
        ("Cargo.toml", fill(MANIFEST)),
        ("src/lib.rs", fill(code)),
        ("wit/zlh-identity/identity.wit", WIT.to_owned()),
        ("README.md", fill(README)),
        (".gitignore", "target/\n".to_owned()),
    ] {
        let path = folder.join(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|first: char| first.is_ascii_lowercase()) && name.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_to_fill_in_and_spins_own_braces_stay() {
        for dependency in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let made = folder.path().join("my-own");
            write_to(&made, "my-own", dependency).unwrap();

            for file in ["Cargo.toml", "src/lib.rs", "README.md"] {
                let text = fs::read_to_string(made.join(file)).unwrap();
                let left = text.replace("{{ token_public_keys }}", "");
                assert!(!left.contains("{{") || file == "src/lib.rs", "{text}");
                assert!(text.contains("my-own") || text.contains("my_own"), "{text}");
            }
            assert!(write_to(&made, "my-own", dependency).is_err(), "what is there stays");
        }
    }

    #[test]
    fn a_name_that_leaves_the_folder_or_that_cargo_refuses_is_none() {
        for name in ["", "../x", "a/b", "Mine", "9x", "-x", "a_b"] {
            assert!(!is_name(name), "{name}");
        }
        assert!(is_name("mail-http2"));
    }
}
