//! Joins a component with its dependencies into one, as Spin does, with `wac-graph`.
//!
//! A composed component runs with the grants of its main stanza. So a dependency that imports a
//! capability which it does not inherit is refused, except for the environment, which it sees empty.

use std::collections::BTreeSet;
use std::path::PathBuf;

use thiserror::Error;
use wac_graph::types::{ItemKind, Package, Types, are_semver_compatible};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

use super::component_files::{Candidate, Digest};
use super::manifest::{App, Capability, Component, Dependency, Provider};
use super::sources::{Sources, Unreadable};
use crate::body::BoxError;

/// Why a component could not be put together.
#[derive(Debug, Error)]
pub enum ComposeError {
    /// The file named by `source` or `path` is not there.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file holds something else.
    #[error("`{name}` is not a component")]
    Invalid {
        /// Stanza or dependency.
        name: String,
        /// What the parser says.
        #[source]
        source: BoxError,
    },
    /// A dependency does not fit.
    #[error("component `{component}`, dependency `{dependency}`: {reason}")]
    Dependency {
        /// Stanza that declares it.
        component: String,
        /// Its key.
        dependency: String,
        /// What does not fit.
        reason: String,
    },
}

/// Prefix of the name under which a dependency that does not inherit the environment imports an empty
/// one; its version follows.
pub(crate) const NO_ENVIRONMENT: &str = "zlh:host/no-environment";

/// A component with everything it depends on inside.
pub(crate) struct Composed {
    pub(crate) wasm: Vec<u8>,
    /// What it was made of: stanzas, or names of files, and digests.
    pub(crate) parts: BTreeSet<(String, Digest)>,
}

/// Composes the component `id`. Blocks.
pub(crate) fn compose(app: &App, sources: &Sources, id: &str) -> Result<Composed, ComposeError> {
    let mut composer = Composer { app, sources, parts: BTreeSet::new(), trail: Vec::new() };
    let wasm = composer.component(id)?;
    Ok(Composed { wasm, parts: composer.parts })
}

/// Names of what a component imports and exports.
pub(crate) struct World {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

/// Looks at a component without composing it. `name` is for the error.
pub(crate) fn world(name: &str, wasm: &[u8]) -> Result<World, ComposeError> {
    let mut types = Types::default();
    let package = Package::from_bytes("zlh:package", None, wasm, &mut types)
        .map_err(|error| ComposeError::Invalid { name: name.to_owned(), source: error.into() })?;
    let world = &types[package.ty()];
    Ok(World {
        imports: world.imports.keys().cloned().collect(),
        exports: world.exports.keys().cloned().collect(),
    })
}

struct Composer<'a> {
    app: &'a App,
    sources: &'a Sources,
    parts: BTreeSet<(String, Digest)>,
    /// Components whose dependencies are being composed.
    trail: Vec<String>,
}

impl Composer<'_> {
    fn component(&mut self, id: &str) -> Result<Vec<u8>, ComposeError> {
        let fail = |dependency: &str, reason: String| ComposeError::Dependency {
            component: id.to_owned(),
            dependency: dependency.to_owned(),
            reason,
        };
        let component: &Component = self
            .app
            .components
            .get(id)
            .ok_or_else(|| fail(id, format!("there is no `[component.{id}]`")))?;
        let main = self.take(id, self.sources.component(id, &component.source))?;
        if component.dependencies.is_empty() {
            return Ok(main);
        }
        if self.trail.iter().any(|above| above == id) {
            return Err(fail(id, "it depends on itself".into()));
        }

        self.trail.push(id.to_owned());
        let mut graph = CompositionGraph::new();
        let main = register(&mut graph, id, main)?;
        let socket = graph.instantiate(main);
        for dependency in &component.dependencies {
            let provider = match &dependency.provider {
                Provider::Component(id) => self.component(id)?,
                Provider::Path(path) => {
                    let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                    self.take(&name, self.sources.file(path))?
                }
            };
            let provider = register(&mut graph, &dependency.name, provider)?;
            plug(&mut graph, main, socket, provider, dependency)
                .map_err(|reason| fail(&dependency.name, reason))?;
        }
        self.trail.pop();

        export_all(&mut graph, main, socket).map_err(|reason| fail(id, reason))?;
        graph.encode(EncodeOptions::default()).map_err(|error| fail(id, error.to_string()))
    }

    fn take(
        &mut self,
        name: &str,
        code: Result<Candidate, Unreadable>,
    ) -> Result<Vec<u8>, ComposeError> {
        let code =
            code.map_err(|Unreadable { path, source }| ComposeError::Read { path, source })?;
        self.parts.insert((name.to_owned(), code.digest));
        Ok(code.bytes.into())
    }
}

fn register(
    graph: &mut CompositionGraph,
    name: &str,
    bytes: Vec<u8>,
) -> Result<PackageId, ComposeError> {
    let invalid = |source: BoxError| ComposeError::Invalid { name: name.to_owned(), source };
    // The graph wants a name of its own for each package, and has no use for it.
    let unique = format!("zlh:package-{}", graph.packages().count());
    let package = Package::from_bytes(&unique, None, bytes, graph.types_mut())
        .map_err(|error| invalid(error.into()))?;
    graph.register_package(package).map_err(|error| invalid(error.into()))
}

fn imports(graph: &CompositionGraph, package: PackageId) -> Vec<(String, ItemKind)> {
    let world = &graph.types()[graph[package].ty()];
    world.imports.iter().map(|(name, kind)| (name.clone(), *kind)).collect()
}

/// Connects what `dependency` names of the main component's imports to the provider's exports.
fn plug(
    graph: &mut CompositionGraph,
    main: PackageId,
    socket: NodeId,
    provider: PackageId,
    dependency: &Dependency,
) -> Result<(), String> {
    let wanted: Vec<String> = imports(graph, main)
        .into_iter()
        .map(|(name, _)| name)
        .filter(|import| satisfies(&dependency.name, import))
        .collect();
    if wanted.is_empty() {
        return Err("the component does not import it".into());
    }

    let plug = graph.instantiate(provider);
    confine(graph, provider, plug, dependency)?;
    for import in wanted {
        let wanted = dependency.export.as_deref().unwrap_or(&import);
        let exports = &graph.types()[graph[provider].ty()].exports;
        let export = exports
            .keys()
            .find(|export| *export == wanted)
            .or_else(|| exports.keys().find(|export| are_semver_compatible(export, wanted)))
            .ok_or_else(|| format!("it does not export `{wanted}`"))?
            .clone();
        let node = graph.alias_instance_export(plug, &export).map_err(|error| error.to_string())?;
        graph
            .set_instantiation_argument(socket, &import, node)
            .map_err(|error| format!("its `{export}` does not fit `{import}`: {error}"))?;
    }
    Ok(())
}

/// Holds a provider to what it inherits.
fn confine(
    graph: &mut CompositionGraph,
    provider: PackageId,
    plug: NodeId,
    dependency: &Dependency,
) -> Result<(), String> {
    for (import, kind) in imports(graph, provider) {
        let Some(capability) = capability(&import) else { continue };
        if dependency.inherit.contains(&capability) {
            continue;
        }
        if capability != Capability::Environment {
            return Err(format!(
                "it imports `{import}`, so its `inherit_configuration` must name `{}`",
                capability.name()
            ));
        }
        let version = import.split_once('@').map_or("", |(_, version)| version);
        let name = format!("{NO_ENVIRONMENT}@{version}");
        let existing = graph.imports().find(|(existing, ..)| *existing == name);
        let node = match existing.and_then(|(.., node)| node) {
            Some(node) => node,
            None => {
                let kind = anonymous(graph, kind);
                graph.import(name, kind).map_err(|error| error.to_string())?
            }
        };
        graph.set_instantiation_argument(plug, &import, node).map_err(|error| error.to_string())?;
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

fn export_all(graph: &mut CompositionGraph, main: PackageId, socket: NodeId) -> Result<(), String> {
    let exports: Vec<String> = graph.types()[graph[main].ty()].exports.keys().cloned().collect();
    for export in exports {
        let node =
            graph.alias_instance_export(socket, &export).map_err(|error| error.to_string())?;
        graph.export(node, &export).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// Whether the key of a dependency names an import: `ns:package@version` stands for each of that
/// package's interfaces, `ns:package/interface@version` and a plain name for themselves.
fn satisfies(dependency: &str, import: &str) -> bool {
    if dependency == import || dependency.contains('/') || !dependency.contains(':') {
        return dependency == import;
    }
    let split = |name: &str| {
        let (path, version) = name.split_once('@').unwrap_or((name, ""));
        let package = path.split_once('/').map_or(path, |(package, _)| package);
        (package.to_owned(), version.to_owned())
    };
    split(dependency) == split(import)
}

/// The grant that an import needs; none for what cannot reach outside an instance. Files and sockets
/// need none either, since this host opens neither to any guest.
pub(crate) fn capability(import: &str) -> Option<Capability> {
    let (interface, _) = import.split_once('@').unwrap_or((import, ""));
    let (package, _) = interface.split_once('/').unwrap_or((interface, ""));
    match (package, interface) {
        (_, "wasi:cli/environment") => Some(Capability::Environment),
        (_, "wasi:http/client" | "wasi:http/handler" | "wasi:http/outgoing-handler") => {
            Some(Capability::AllowedOutboundHosts)
        }
        ("spin:key-value" | "wasi:keyvalue", _) => Some(Capability::KeyValueStores),
        ("spin:sqlite", _) => Some(Capability::SqliteDatabases),
        ("spin:variables" | "wasi:config", _) => Some(Capability::Variables),
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
    fn a_dependency_names_a_package_an_interface_or_itself() {
        assert!(satisfies("a:b@1.0.0", "a:b/c@1.0.0"));
        assert!(satisfies("a:b/c@1.0.0", "a:b/c@1.0.0"));
        assert!(satisfies("plain", "plain"));
        assert!(!satisfies("a:b@1.0.0", "a:b/c@1.0.1"));
        assert!(!satisfies("a:b@1.0.0", "a:bb/c@1.0.0"));
        assert!(!satisfies("a:b/c@1.0.0", "a:b/d@1.0.0"));
        assert!(!satisfies("plain", "other"));
    }

    #[test]
    fn the_capability_of_an_import_does_not_depend_on_its_version() {
        assert_eq!(capability("spin:sqlite/sqlite@3.1.0"), Some(Capability::SqliteDatabases));
        assert_eq!(capability("wasi:cli/environment@0.2.6"), Some(Capability::Environment));
        assert_eq!(capability("wasi:http/client@0.3.0"), Some(Capability::AllowedOutboundHosts));
        assert_eq!(capability("wasi:http/types@0.3.0"), None);
    }
}
