//! What components ask of their host: nothing that a plain Spin does not serve.

use std::collections::BTreeSet;

use system_tests::config;
use wac_graph::types::{ItemKind, Package, Types};

/// Packages of Spin 4.1 and of WASI.
const SERVED: [&str; 6] = [
    "wasi:",
    "fermyon:spin/",
    "spin:key-value/",
    "spin:postgres/",
    "spin:sqlite/",
    "spin:variables/",
];

/// Names of the interfaces that the component calls. One that only names types asks nothing of a host.
fn imports(wasm: Vec<u8>) -> BTreeSet<String> {
    let mut types = Types::default();
    let package = Package::from_bytes("component", None, wasm, &mut types).expect("a component");
    let calls = |kind: &ItemKind| match kind {
        ItemKind::Instance(id) => {
            types[*id].exports.values().any(|export| matches!(export, ItemKind::Func(_)))
        }
        _ => true,
    };
    let imports = types[package.ty()].imports.iter();
    imports.filter(|(_, kind)| calls(kind)).map(|(name, _)| name.clone()).collect()
}

#[test]
fn every_import_is_served_by_spin_or_satisfied_in_its_stanza() {
    let manifest = std::fs::read_to_string(config::manifest()).unwrap();
    let manifest: toml::Table = manifest.parse().unwrap();
    let components = manifest["component"].as_table().unwrap();
    assert!(components.len() >= 6, "{components:?}");

    for (id, stanza) in components {
        let source = config::root().join(stanza["source"].as_str().unwrap());
        let imports = imports(std::fs::read(&source).unwrap());
        let dependencies: Vec<&str> = stanza
            .get("dependencies")
            .and_then(toml::Value::as_table)
            .map(|table| table.keys().map(String::as_str).collect())
            .unwrap_or_default();
        assert!(imports.iter().any(|name| name.starts_with("wasi:")), "{id}: {imports:?}");
        for name in &imports {
            let package = name.split_once('/').map_or(name.as_str(), |(package, _)| package);
            let satisfied =
                dependencies.iter().any(|dependency| dependency.split('@').next() == Some(package));
            let served = SERVED.iter().any(|prefix| name.starts_with(prefix));
            assert!(served || satisfied, "`{id}` imports `{name}`");
        }
    }
}
