//! What a file must be to take the place of another: a component, with exports that its callers can go on
//! using, and no imports beyond what the stanza grants.

use wac_graph::types::are_semver_compatible;

use super::capability::outbound_http::AllowList;
use super::compose::{World, capability};
use super::manifest::{Capability, Component, Provider};

/// First bytes of a core module and of a component (the component model's binary format, preamble).
const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

/// Says what a file is if it is not a component.
pub(super) fn format(bytes: &[u8]) -> Result<(), String> {
    if bytes.starts_with(COMPONENT) {
        return Ok(());
    }
    Err(if bytes.is_empty() {
        "the file is empty"
    } else if bytes.starts_with(MODULE) {
        "the file is a core module, not a component: build it for wasm32-wasip2"
    } else {
        "the file is not WebAssembly"
    }
    .to_owned())
}

/// Whether the exports let a component stand where `old` stands.
pub(super) fn exports(new: &World, old: &World, routed: bool) -> Result<(), String> {
    if routed && !new.exports.iter().any(|name| is_http_handler(name)) {
        let found = match new.exports.as_slice() {
            [] => "nothing".to_owned(),
            exports => format!("`{}`", exports.join("`, `")),
        };
        return Err(format!(
            "a component with a route must export `wasi:http/handler@0.3` or \
             `wasi:http/incoming-handler@0.2`; this one exports {found}"
        ));
    }
    let missing = old
        .exports
        .iter()
        .filter(|wanted| !is_http_handler(wanted))
        .find(|wanted| !new.exports.iter().any(|export| are_semver_compatible(export, wanted)));
    match missing {
        Some(wanted) => Err(format!("it does not export `{wanted}`, which it would replace")),
        None => Ok(()),
    }
}

/// Whether a stanza grants all that a component asks for.
pub(super) fn grants(
    id: &str,
    stanza: &Component,
    allowed: &AllowList,
    imports: &[String],
) -> Result<(), String> {
    // Whether there is a database that it may reach is seen when it connects: one that works on either kind
    // imports both.
    let is_granted = |import: &str, capability| {
        granted(stanza, capability) && (!import.starts_with("wasi:http/") || allowed.allows_http())
    };
    let missing = imports
        .iter()
        .filter_map(|import| Some((import, capability(import)?)))
        .find(|(import, capability)| !is_granted(import, *capability));
    match missing {
        Some((import, capability)) => Err(format!(
            "it imports `{import}`, and `[component.{id}]` grants no `{}`",
            capability.name()
        )),
        None => Ok(()),
    }
}

/// Whether a dependency inherits all that it asks for in the component `user`. What it does not inherit
/// would be denied to it when it asks; a file that asks for more than the one before it is better refused.
pub(super) fn inherited(
    user: &str,
    stanza: &Component,
    dependency: &str,
    imports: &[String],
) -> Result<(), String> {
    let is_ours =
        |provider: &Provider| matches!(provider, Provider::Component(id) if id == dependency);
    let dependencies = stanza.dependencies.iter().map(|d| (&d.provider, &d.inherit));
    let middleware = stanza.middleware.iter().map(|m| (&m.provider, &m.inherit));
    for (_, inherit) in dependencies.chain(middleware).filter(|(provider, _)| is_ours(provider)) {
        let missing = imports
            .iter()
            .filter(|import| !is_http_handler(import))
            .filter_map(|import| Some((import, capability(import)?)))
            .find(|(_, capability)| !free(*capability) && !inherit.contains(capability));
        if let Some((import, capability)) = missing {
            return Err(format!(
                "it imports `{import}`, and in `[component.{user}]` it inherits no `{}`",
                capability.name()
            ));
        }
    }
    Ok(())
}

/// What is not granted of these is seen empty.
fn free(capability: Capability) -> bool {
    matches!(capability, Capability::Environment | Capability::Files)
}

fn granted(stanza: &Component, capability: Capability) -> bool {
    match capability {
        Capability::AllowedOutboundHosts => !stanza.allowed_outbound_hosts.is_empty(),
        Capability::KeyValueStores => !stanza.key_value_stores.is_empty(),
        Capability::SqliteDatabases => !stanza.sqlite_databases.is_empty(),
        Capability::Variables => !stanza.variables.is_empty(),
        Capability::AiModels => false,
        Capability::Environment | Capability::Files => free(capability),
    }
}

fn is_http_handler(export: &str) -> bool {
    ["wasi:http/handler@0.3.", "wasi:http/incoming-handler@0.2."]
        .iter()
        .any(|handler| export.starts_with(handler))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::component_host::manifest::App;

    fn world(exports: &[&str]) -> World {
        let exports = exports.iter().map(|name| (*name).to_owned()).collect();
        World { imports: Vec::new(), exports }
    }

    #[test]
    fn a_file_that_is_no_component_is_told_apart() {
        for (bytes, wanted) in [
            (b"".as_slice(), "empty"),
            (b"\0asm\x01\0\0\0", "core module"),
            (b"\0asm\x0d\0", "not WebAssembly"),
            (b"#!/bin/sh", "not WebAssembly"),
        ] {
            let said = format(bytes).unwrap_err();
            assert!(said.contains(wanted), "{said}");
        }
        format(b"\0asm\x0d\0\x01\0").unwrap();
    }

    #[test]
    fn a_routed_component_serves_http_of_either_generation() {
        let old = world(&["wasi:http/handler@0.3.0"]);

        exports(&world(&["wasi:http/handler@0.3.2"]), &old, true).unwrap();
        exports(&world(&["wasi:http/incoming-handler@0.2.6"]), &old, true).unwrap();
        let command = exports(&world(&["wasi:cli/run@0.2.6"]), &old, true).unwrap_err();
        assert!(command.contains("wasi:cli/run@0.2.6"), "{command}");
        assert!(exports(&world(&["wasi:http/handler@0.4.0"]), &old, true).is_err());
    }

    #[test]
    fn an_interface_is_replaced_by_a_compatible_version_only() {
        let old = world(&["a:b/c@1.1.0", "a:b/d@1.1.0"]);

        exports(&world(&["a:b/c@1.1.0", "a:b/d@1.2.0"]), &old, false).unwrap();
        for new in [["a:b/c@1.1.0", "a:b/e@1.1.0"], ["a:b/c@1.1.0", "a:b/d@2.0.0"]] {
            let said = exports(&world(&new), &old, false).unwrap_err();
            assert!(said.contains("`a:b/d@1.1.0`"), "{said}");
        }
    }

    #[test]
    fn a_dependency_asks_for_what_it_inherits_and_no_more() {
        let text = "spin_manifest_version = 2\napplication = { name = 'a' }\n\
             [component.x]\nsource = 'x'\nkey_value_stores = ['agents']\nvariables = { a = 'b' }\n\
             dependencies = { 'a:b@1.0.0' = { component = 'y', inherit_configuration = ['variables'] } }\n\
             [component.y]\nsource = 'y'";
        let app = App::parse(text, Path::new("")).unwrap();
        let check = |import: &str| inherited("x", &app.components["x"], "y", &[import.to_owned()]);

        check("spin:variables/variables@3.0.0").unwrap();
        check("wasi:cli/environment@0.2.6").unwrap();
        let said = check("spin:key-value/key-value@3.0.0").unwrap_err();
        assert!(said.contains("[component.x]") && said.contains("key_value_stores"), "{said}");
    }

    #[test]
    fn each_import_wants_its_grant() {
        let imports = |name: &str| [name.to_owned(), "wasi:cli/environment@0.2.6".to_owned()];
        let stanza = |grants: &str| {
            let text = format!(
                "spin_manifest_version = 2\napplication = {{ name = 'a' }}\n\
                 [component.x]\nsource = 'x'\n{grants}"
            );
            App::parse(&text, Path::new("")).unwrap().components.remove("x").unwrap()
        };

        for (import, grant) in [
            ("spin:sqlite/sqlite@3.1.0", "sqlite_databases = ['default']"),
            ("spin:key-value/key-value@3.0.0", "key_value_stores = ['agents']"),
            ("wasi:http/client@0.3.0", "allowed_outbound_hosts = ['http://h']"),
            ("spin:variables/variables@3.0.0", "variables = { a = 'b' }"),
        ] {
            let allowed = AllowList::parse(&["http://h".to_owned()]).unwrap();
            grants("x", &stanza(grant), &allowed, &imports(import)).unwrap();
            let said = grants("x", &stanza(""), &allowed, &imports(import)).unwrap_err();
            assert!(said.contains(import) && said.contains("[component.x]"), "{said}");
        }
        let database = AllowList::parse(&["postgres://h".to_owned()]).unwrap();
        let stanza = stanza("allowed_outbound_hosts = ['postgres://h']");
        grants("x", &stanza, &database, &imports("spin:postgres/postgres@4.2.0")).unwrap();
        let said = grants("x", &stanza, &database, &imports("wasi:http/client@0.3.0")).unwrap_err();
        assert!(said.contains("wasi:http/client@0.3.0"), "{said}");
    }
}
