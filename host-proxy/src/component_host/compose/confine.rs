//! Holds a dependency to what it inherits.

use std::collections::BTreeSet;

use wac_graph::types::ItemKind;
use wac_graph::{CompositionGraph, NodeId, PackageId};

use super::imports;
use crate::component_host::deny;
use crate::component_host::manifest::Capability;

/// Gives the instance `node` of `package` a denied import in place of each that it does not inherit, unless
/// something else is in that place already. `owner` names it among all that are composed.
pub(super) fn confine(
    graph: &mut CompositionGraph,
    owner: &str,
    package: PackageId,
    node: NodeId,
    inherit: &BTreeSet<Capability>,
) -> Result<(), String> {
    let satisfied: Vec<String> =
        graph.get_instantiation_arguments(node).map(|(name, _)| name.to_owned()).collect();
    for (import, kind) in imports(graph, package) {
        let free = capability(&import).is_none_or(|capability| inherit.contains(&capability));
        if free || satisfied.contains(&import) {
            continue;
        }
        let kind = anonymous(graph, kind);
        let denied =
            graph.import(deny::name(owner, &import), kind).map_err(|error| error.to_string())?;
        graph
            .set_instantiation_argument(node, &import, denied)
            .map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// The same interface without its identity; imports of one identity are merged, whatever their names.
fn anonymous(graph: &mut CompositionGraph, kind: ItemKind) -> ItemKind {
    let ItemKind::Instance(interface) = kind else { return kind };
    let mut copy = graph.types()[interface].clone();
    copy.id = None;
    ItemKind::Instance(graph.types_mut().add_interface(copy))
}

/// The grant that an import needs; none for what cannot reach outside an instance. Sockets need none
/// either, since this host opens none for any guest.
pub(crate) fn capability(import: &str) -> Option<Capability> {
    let (interface, _) = import.split_once('@').unwrap_or((import, ""));
    let (package, _) = interface.split_once('/').unwrap_or((interface, ""));
    match (package, interface) {
        (_, "wasi:cli/environment") => Some(Capability::Environment),
        (_, "wasi:filesystem/preopens") => Some(Capability::Files),
        // Where no middleware is composed, the host takes a handler's requests to the network.
        (_, "wasi:http/client" | "wasi:http/handler" | "wasi:http/outgoing-handler") => {
            Some(Capability::AllowedOutboundHosts)
        }
        (_, "spin:key-value/key-value" | "wasi:keyvalue/store") => Some(Capability::KeyValueStores),
        (_, "spin:sqlite/sqlite") => Some(Capability::SqliteDatabases),
        (_, "spin:variables/variables" | "wasi:config/store") => Some(Capability::Variables),
        ("spin:postgres" | "spin:mysql" | "spin:redis" | "spin:mqtt", _) => {
            Some(Capability::AllowedOutboundHosts)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_capability_of_an_import_does_not_depend_on_its_version() {
        assert_eq!(capability("spin:sqlite/sqlite@3.1.0"), Some(Capability::SqliteDatabases));
        assert_eq!(capability("wasi:cli/environment@0.2.6"), Some(Capability::Environment));
        assert_eq!(capability("wasi:http/client@0.3.0"), Some(Capability::AllowedOutboundHosts));
        assert_eq!(capability("wasi:http/types@0.3.0"), None);
    }
}
