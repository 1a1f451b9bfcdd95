//! Imports that a dependency does not inherit: they are there, and every call is refused.
//!
//! As in Spin, a call returns the interface's own error where it has one, a list comes back empty and an
//! option as none; what can say nothing of the kind traps.

use wasmtime::component::types::{ComponentFunc, ComponentItem, Type};
use wasmtime::component::{Component, Linker, ResourceType, Val};
use wasmtime::{Engine, Error, Result, format_err};

/// Start of the names of denied imports.
const DENIED: &str = "zlh:host/denied-";

/// A resource of a denied interface; nothing makes one.
struct Denied;

/// The name under which a denied `import` of `owner` is imported instead. It is the owner's alone, because
/// others may use other functions of the interface.
pub(crate) fn name(owner: &str, import: &str) -> String {
    let (path, version) = match import.split_once('@') {
        Some((path, version)) => (path, format!("@{version}")),
        None => (import, String::new()),
    };
    format!("{DENIED}{owner}-{}{version}", path.replace([':', '/'], "-"))
}

/// Defines the denied imports of a component.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    engine: &Engine,
    component: &Component,
) -> Result<()> {
    let mut known: Vec<ResourceType> = Vec::new();
    for (name, item) in component.component_type().imports(engine) {
        let ComponentItem::ComponentInstance(instance) = item.ty else { continue };
        let denied = name.starts_with(DENIED);
        for (export, item) in instance.exports(engine) {
            match item.ty {
                // One that is seen again is another name for the first.
                ComponentItem::Resource(resource) if !known.contains(&resource) => {
                    known.push(resource);
                    if denied {
                        let ty = ResourceType::host::<Denied>();
                        linker.instance(name)?.resource(export, ty, |_, _| Ok(()))?;
                    }
                }
                ComponentItem::ComponentFunc(function) if denied => {
                    let import = name.trim_start_matches(DENIED);
                    let import = import.split_once('-').map_or(import, |(_, import)| import);
                    let what = format!("{import}#{export}");
                    define(&mut linker.instance(name)?, export, function.async_(), what)?;
                }
                _ => {}
            }
        }
    }
    Ok(())
}

fn define<T: Send + 'static>(
    instance: &mut wasmtime::component::LinkerInstance<'_, T>,
    export: &str,
    is_async: bool,
    what: String,
) -> Result<()> {
    if is_async {
        instance.func_new_concurrent(export, move |_, function, _, results| {
            let refused = refuse(&function, &what, results);
            Box::pin(async move { refused })
        })
    } else {
        instance.func_new(export, move |_, function, _, results| refuse(&function, &what, results))
    }
}

fn refuse(function: &ComponentFunc, what: &str, results: &mut [Val]) -> Result<()> {
    for (result, ty) in results.iter_mut().zip(function.results()) {
        *result = refusal(&ty, what).ok_or_else(|| not_inherited(what))?;
    }
    Ok(())
}

fn not_inherited(what: &str) -> Error {
    format_err!("`{what}` is not permitted: the dependency does not inherit it")
}

fn refusal(ty: &Type, what: &str) -> Option<Val> {
    match ty {
        Type::List(_) => Some(Val::List(Vec::new())),
        Type::Option(_) => Some(Val::Option(None)),
        Type::Result(result) => match result.err() {
            Some(ty) => Some(Val::Result(Err(Some(Box::new(error(&ty, what)?))))),
            None => Some(Val::Result(Err(None))),
        },
        _ => None,
    }
}

/// The value of an error type that says best what happened.
fn error(ty: &Type, what: &str) -> Option<Val> {
    let text = || Val::String(format!("{what} is not permitted"));
    match ty {
        Type::String => Some(text()),
        Type::Enum(cases) => {
            let name = cases.names().find(|name| *name == "access-denied")?;
            Some(Val::Enum(name.to_owned()))
        }
        Type::Variant(variant) => {
            let wanted = ["access-denied", "internal-error", "other", "upstream"];
            let case =
                wanted.iter().find_map(|name| variant.cases().find(|case| case.name == *name))?;
            let payload = match case.ty {
                None => None,
                Some(Type::String) => Some(text()),
                Some(Type::Option(option)) if option.ty() == Type::String => {
                    Some(Val::Option(Some(Box::new(text()))))
                }
                Some(_) => return None,
            };
            Some(Val::Variant(case.name.to_owned(), payload.map(Box::new)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denied_import_has_a_name_of_its_own() {
        assert_eq!(
            name("d1", "spin:key-value/key-value@3.0.0"),
            "zlh:host/denied-d1-spin-key-value-key-value@3.0.0"
        );
        assert_eq!(name("d1", "plain"), "zlh:host/denied-d1-plain");
    }
}
