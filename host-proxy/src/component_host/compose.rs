//! Joins a component with its dependencies and its middleware into one, as Spin does, with `wac-graph`.
//!
//! A composed component runs with the grants of its main stanza. What a dependency imports and does not
//! inherit is therefore replaced by an import of the same type that the host denies ([`super::deny`]).

mod confine;
mod middleware;

use std::collections::BTreeSet;
use std::path::PathBuf;

use thiserror::Error;
use wac_graph::types::{ItemKind, Package, Types, are_semver_compatible};
use wac_graph::{CompositionGraph, EncodeOptions, NodeId, PackageId};

use super::component_files::{Candidate, Digest};
use super::manifest::{App, Component, Dependency, Provider};
use super::sources::{Sources, Unreadable};
use crate::body::BoxError;

pub(crate) use self::confine::capability;

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

/// A component with everything it depends on inside.
pub(crate) struct Composed {
    pub(crate) wasm: Vec<u8>,
    /// What it was made of: stanzas, or names of files, and digests.
    pub(crate) parts: BTreeSet<(String, Digest)>,
}

/// Composes the component `id`. Blocks.
pub(crate) fn compose(app: &App, sources: &Sources, id: &str) -> Result<Composed, ComposeError> {
    let mut composer = Composer { app, sources, parts: BTreeSet::new() };
    let wasm = composer.component(id)?;
    Ok(Composed { wasm, parts: composer.parts })
}

/// Names of what a component imports and exports.
pub(crate) struct World {
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

/// Whether an import is more than names of types, which ask nothing of a host.
fn is_called(types: &Types, import: &ItemKind) -> bool {
    match import {
        ItemKind::Instance(id) => {
            types[*id].exports.values().any(|export| matches!(export, ItemKind::Func(_)))
        }
        _ => true,
    }
}

/// Looks at a component without composing it. `name` is for the error.
pub(crate) fn world(name: &str, wasm: &[u8]) -> Result<World, ComposeError> {
    let mut types = Types::default();
    let package = Package::from_bytes("zlh:package", None, wasm, &mut types)
        .map_err(|error| ComposeError::Invalid { name: name.to_owned(), source: error.into() })?;
    let world = &types[package.ty()];
    Ok(World {
        imports: world
            .imports
            .iter()
            .filter(|(_, kind)| is_called(&types, kind))
            .map(|(name, _)| name.clone())
            .collect(),
        exports: world.exports.keys().cloned().collect(),
    })
}

struct Composer<'a> {
    app: &'a App,
    sources: &'a Sources,
    parts: BTreeSet<(String, Digest)>,
}

impl Composer<'_> {
    fn component(&mut self, id: &str) -> Result<Vec<u8>, ComposeError> {
        let Some(component) = self.app.components.get(id) else {
            return Err(fail(id, id, format!("there is no `[component.{id}]`")));
        };
        let main = self.with_dependencies(id, component)?;
        if component.middleware.is_empty() {
            return Ok(main);
        }
        let outer = component
            .middleware
            .iter()
            .map(|middleware| self.provide(&middleware.provider))
            .collect::<Result<_, _>>()?;
        middleware::wrap(id, &component.middleware, outer, main)
    }

    fn with_dependencies(
        &mut self,
        id: &str,
        component: &Component,
    ) -> Result<Vec<u8>, ComposeError> {
        let stanza = component.copy_of.as_deref().unwrap_or(id);
        let main = self.take(stanza, self.sources.component(stanza, &component.source))?;
        if component.dependencies.is_empty() {
            return Ok(main);
        }
        let mut graph = CompositionGraph::new();
        let main = register(&mut graph, id, main)?;
        let socket = graph.instantiate(main);
        for (index, dependency) in component.dependencies.iter().enumerate() {
            let provider = self.provide(&dependency.provider)?;
            let provider = register(&mut graph, &dependency.name, provider)?;
            plug(&mut graph, main, socket, &format!("d{index}"), provider, dependency)
                .map_err(|reason| fail(id, &dependency.name, reason))?;
        }
        export_all(&mut graph, main, socket).map_err(|reason| fail(id, id, reason))?;
        encode(&graph).map_err(|reason| fail(id, id, reason))
    }

    /// The code behind a dependency. That of a stanza has no dependencies of its own, the manifest says.
    fn provide(&mut self, provider: &Provider) -> Result<Vec<u8>, ComposeError> {
        match provider {
            Provider::Path(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                self.take(&name, self.sources.file(path))
            }
            Provider::Component(id) => match self.app.components.get(id) {
                Some(component) => self.take(id, self.sources.component(id, &component.source)),
                None => Err(fail(id, id, format!("there is no `[component.{id}]`"))),
            },
        }
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

fn fail(component: &str, dependency: &str, reason: String) -> ComposeError {
    ComposeError::Dependency {
        component: component.to_owned(),
        dependency: dependency.to_owned(),
        reason,
    }
}

fn encode(graph: &CompositionGraph) -> Result<Vec<u8>, String> {
    graph.encode(EncodeOptions::default()).map_err(|error| error.to_string())
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

fn exports(graph: &CompositionGraph, package: PackageId) -> Vec<String> {
    graph.types()[graph[package].ty()].exports.keys().cloned().collect()
}

/// Connects what `dependency` names of the main component's imports to the provider's exports.
fn plug(
    graph: &mut CompositionGraph,
    main: PackageId,
    socket: NodeId,
    owner: &str,
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
    confine::confine(graph, owner, provider, plug, &dependency.inherit)?;
    for import in wanted {
        let wanted = dependency.export.as_deref().unwrap_or(&import);
        let export = find(exports(graph, provider), wanted)
            .ok_or_else(|| format!("it does not export `{wanted}`"))?;
        let node = graph.alias_instance_export(plug, &export).map_err(|error| error.to_string())?;
        graph
            .set_instantiation_argument(socket, &import, node)
            .map_err(|error| format!("its `{export}` does not fit `{import}`: {error}"))?;
    }
    Ok(())
}

/// The name that is `wanted`, else one of a compatible version.
fn find(names: Vec<String>, wanted: &str) -> Option<String> {
    if names.iter().any(|name| name == wanted) {
        return Some(wanted.to_owned());
    }
    names.into_iter().find(|name| are_semver_compatible(name, wanted))
}

fn export_all(graph: &mut CompositionGraph, main: PackageId, socket: NodeId) -> Result<(), String> {
    for export in exports(graph, main) {
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
}
