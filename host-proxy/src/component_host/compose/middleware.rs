//! Puts middleware around a component: each one imports the handler that the next one exports.

use wac_graph::CompositionGraph;

use super::{ComposeError, confine, encode, exports, fail, find, imports, register};
use crate::component_host::manifest::Middleware;

/// What every part of a chain exports, and every part but the last imports.
const HANDLER: &str = "wasi:http/handler@0.3.0";

/// Wraps `main`, the component `id`, in `outer`, whose first one sees a request first.
pub(super) fn wrap(
    id: &str,
    chain: &[Middleware],
    outer: Vec<Vec<u8>>,
    main: Vec<u8>,
) -> Result<Vec<u8>, ComposeError> {
    let mut graph = CompositionGraph::new();
    let main = register(&mut graph, id, main)?;
    let mut next = graph.instantiate(main);
    let mut handler = find(exports(&graph, main), HANDLER)
        .ok_or_else(|| fail(id, "middleware", format!("`{id}` does not export `{HANDLER}`")))?;

    for (index, (middleware, bytes)) in chain.iter().zip(outer).enumerate().rev() {
        let name = format!("middleware[{index}]");
        let wrong = |reason: String| fail(id, &name, reason);
        let package = register(&mut graph, &name, bytes)?;
        let instance = graph.instantiate(package);

        let names = imports(&graph, package).into_iter().map(|(import, _)| import).collect();
        let import =
            find(names, HANDLER).ok_or_else(|| wrong(format!("it does not import `{HANDLER}`")))?;
        let argument = graph
            .alias_instance_export(next, &handler)
            .map_err(|error| wrong(error.to_string()))?;
        graph
            .set_instantiation_argument(instance, &import, argument)
            .map_err(|error| wrong(error.to_string()))?;
        let owner = format!("m{index}");
        confine::confine(&mut graph, &owner, package, instance, &middleware.inherit)
            .map_err(wrong)?;
        handler = find(exports(&graph, package), HANDLER)
            .ok_or_else(|| wrong(format!("it does not export `{HANDLER}`")))?;
        next = instance;
    }

    let wrong = |reason: String| fail(id, "middleware", reason);
    let outermost =
        graph.alias_instance_export(next, &handler).map_err(|error| wrong(error.to_string()))?;
    graph.export(outermost, &handler).map_err(|error| wrong(error.to_string()))?;
    encode(&graph).map_err(wrong)
}
