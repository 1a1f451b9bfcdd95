//! The second implementations that tests swap for the first.

use std::path::PathBuf;

use crate::config;

/// What a component can be swapped for.
#[derive(Debug, Clone)]
pub struct Swap {
    /// The component.
    pub component: &'static str,
    /// The file.
    pub file: PathBuf,
}

/// A component's file, built: `health_alt` for `platform`, `identity_alt` for `identity`, or their own.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    config::root().join(format!("target/wasm32-wasip2/release/{name}.wasm"))
}

/// Swaps of a handler and of a dependency in turn, there and back, without end.
pub fn in_turn() -> impl Iterator<Item = Swap> {
    let swaps = [
        ("platform", "health_alt"),
        ("identity", "identity_alt"),
        ("platform", "platform"),
        ("identity", "identity"),
    ];
    swaps.into_iter().cycle().map(|(component, name)| Swap { component, file: built(name) })
}

/// A component whose one core module traps as soon as it is instantiated.
const TRAP: &[u8] = b"\0asm\x0d\0\x01\0\
    \x01\x1c\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x08\x01\0\x0a\x05\x01\x03\0\0\x0b\
    \x02\x04\x01\0\0\0";

/// A built component's file with something beside it that traps when both are started.
#[must_use]
pub fn that_traps(name: &str) -> Vec<u8> {
    use wac_graph::types::Package;
    use wac_graph::{CompositionGraph, EncodeOptions};

    let mut graph = CompositionGraph::new();
    let file = std::fs::read(built(name)).expect("a built component");
    let mut add = |name: &str, bytes: Vec<u8>| {
        let package = Package::from_bytes(name, None, bytes, graph.types_mut()).expect("wasm");
        graph.register_package(package).expect("a package")
    };
    let (whole, trap) = (add("test:whole", file), add("test:trap", TRAP.to_vec()));
    graph.instantiate(trap);
    let instance = graph.instantiate(whole);
    let exports: Vec<String> = graph.types()[graph[whole].ty()].exports.keys().cloned().collect();
    for export in exports {
        let node = graph.alias_instance_export(instance, &export).expect("an export");
        graph.export(node, &export).expect("the same export");
    }
    graph.encode(EncodeOptions::default()).expect("a component")
}
