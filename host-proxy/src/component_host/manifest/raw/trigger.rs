//! `[[trigger.http]]`, and what follows from it for components: one written inside a trigger gets an id,
//! and one that two triggers wrap differently is there twice.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;
use toml::{Table, Value};

use super::component::RawComponent;
use super::{Result, Unserved, dependency, refuse, table, unknown};
use crate::component_host::manifest::{
    Component, ManifestError, Middleware, Route, StaticResponse, Target,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawHttpTrigger {
    #[serde(default)]
    id: String,
    route: Value,
    component: Option<Value>,
    executor: Option<Table>,
    static_response: Option<RawStaticResponse>,
    #[serde(default)]
    dependencies: BTreeMap<String, Vec<Value>>,
    components: Unserved,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStaticResponse {
    status_code: Option<u16>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
}

/// Collects the triggers of an application.
pub(super) struct Triggers<'a> {
    components: BTreeMap<String, Component>,
    folder: &'a Path,
    found: Vec<Trigger>,
}

struct Trigger {
    id: String,
    /// `None` if it is private.
    route: Option<String>,
    target: Target,
    middleware: Vec<Middleware>,
}

impl<'a> Triggers<'a> {
    pub(super) fn new(components: BTreeMap<String, Component>, folder: &'a Path) -> Self {
        Self { components, folder, found: Vec::new() }
    }

    pub(super) fn check(&mut self, tables: Vec<Table>) -> Result<()> {
        let mut raw = Vec::new();
        for (index, trigger) in tables.into_iter().enumerate() {
            let key = format!("trigger.http[{index}]");
            raw.push((table::<RawHttpTrigger>(&key, Value::Table(trigger))?, key));
        }
        let mut ids: BTreeSet<String> = raw.iter().map(|(trigger, _)| trigger.id.clone()).collect();
        for (mut trigger, key) in raw {
            if trigger.id.is_empty() {
                trigger.id = new_id(&trigger, &ids);
                ids.insert(trigger.id.clone());
            }
            let trigger = self.trigger(trigger, &key)?;
            self.found.push(trigger);
        }
        Ok(())
    }

    fn trigger(&mut self, raw: RawHttpTrigger, key: &str) -> Result<Trigger> {
        refuse(key, &[("components", &raw.components)])?;
        check_executor(&format!("{key}.executor"), raw.executor)?;
        let target = match (raw.component, raw.static_response) {
            (Some(component), None) => Target::Component(self.component(
                &format!("{key}.component"),
                &raw.id,
                component,
            )?),
            (None, Some(response)) => {
                Target::Static(response.check(&format!("{key}.static_response"))?)
            }
            (component, _) => {
                let given = if component.is_some() { "has both" } else { "has neither" };
                return Err(ManifestError::invalid(
                    key,
                    format!(
                        "Triggers must specify either component or static_response - {} {given}",
                        raw.id
                    ),
                ));
            }
        };
        let route = match raw.route {
            Value::String(route) => Some(route),
            Value::Table(route) if route == toml::toml! { private = true } => None,
            _ => {
                return Err(ManifestError::invalid(
                    format!("{key}.route"),
                    "route must be a string pattern or '{ private = true }'",
                ));
            }
        };
        let middleware = self.middleware(&format!("{key}.dependencies"), raw.dependencies)?;
        Ok(Trigger { id: raw.id, route, target, middleware })
    }

    /// The id of a trigger's component, which may be written in the trigger itself.
    fn component(&mut self, key: &str, trigger: &str, value: Value) -> Result<String> {
        let id = match value {
            Value::String(id) => id,
            inline => {
                let component: RawComponent = table(key, inline)?;
                let component = component.check(key, self.folder)?;
                let id = self.inline_id(trigger);
                self.components.insert(id.clone(), component);
                return Ok(id);
            }
        };
        if self.components.contains_key(&id) {
            Ok(id)
        } else {
            Err(ManifestError::invalid(key, format!("there is no `[component.{id}]`")))
        }
    }

    fn inline_id(&self, trigger: &str) -> String {
        let natural = format!("{trigger}-component");
        let numbered = (1_u32..).map(|number| format!("inline-component{number}"));
        std::iter::once(natural)
            .filter(|id| super::is_words(id, '-'))
            .chain(numbered)
            .find(|id| !self.components.contains_key(id))
            .unwrap_or_default()
    }

    fn middleware(
        &self,
        key: &str,
        dependencies: BTreeMap<String, Vec<Value>>,
    ) -> Result<Vec<Middleware>> {
        let mut chain = Vec::new();
        for (role, entries) in dependencies {
            if role != "middleware" {
                return Err(ManifestError::invalid(
                    format!("{key}.{role}"),
                    "the HTTP trigger's only allowed trigger dependency is `middleware`",
                ));
            }
            for (index, entry) in entries.into_iter().enumerate() {
                let key = format!("{key}.middleware[{index}]");
                chain.push(dependency::middleware(&key, entry, self.folder)?);
            }
        }
        Ok(chain)
    }

    /// Gives each component the middleware of its trigger. Where several triggers name one component, each
    /// with middleware gets a copy, `<component>-for-<trigger>`, and the others keep the original, as in
    /// Spin.
    pub(super) fn finish(mut self) -> (Vec<Route>, BTreeMap<String, Component>) {
        let mut uses = BTreeMap::<String, usize>::new();
        for trigger in &self.found {
            if let Target::Component(id) = &trigger.target {
                *uses.entry(id.clone()).or_default() += 1;
            }
        }
        let mut routes = Vec::new();
        for mut trigger in self.found {
            if let Target::Component(id) = &mut trigger.target
                && !trigger.middleware.is_empty()
            {
                if uses.get(id).is_some_and(|uses| *uses > 1)
                    && let Some(mut component) = self.components.get(id).cloned()
                {
                    component.copy_of = Some(id.clone());
                    *id = format!("{id}-for-{}", trigger.id);
                    self.components.insert(id.clone(), component);
                }
                if let Some(component) = self.components.get_mut(id) {
                    component.middleware = trigger.middleware;
                }
            }
            routes.push(Route { route: trigger.route, target: trigger.target });
        }
        (routes, self.components)
    }
}

impl RawStaticResponse {
    fn check(self, key: &str) -> Result<StaticResponse> {
        let status = self.status_code.unwrap_or(200);
        let status = StatusCode::from_u16(status).map_err(|_| {
            ManifestError::invalid(format!("{key}.status_code"), format!("{status} is no status"))
        })?;
        let mut headers = HeaderMap::new();
        for (name, value) in self.headers {
            match (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&value)) {
                (Ok(name), Ok(value)) => headers.append(name, value),
                _ => {
                    let key = format!("{key}.headers.{name}");
                    return Err(ManifestError::invalid(key, "is not a header"));
                }
            };
        }
        Ok(StaticResponse { status, headers, body: self.body.unwrap_or_default().into() })
    }
}

/// What Spin calls a trigger that has no id.
fn new_id(trigger: &RawHttpTrigger, taken: &BTreeSet<String>) -> String {
    let component = trigger.component.as_ref().and_then(Value::as_str);
    let natural = component.map(|component| format!("{component}-http-trigger"));
    let numbered = (1_u32..).map(|number| format!("http-trigger{number}"));
    natural.into_iter().chain(numbered).find(|id| !taken.contains(id)).unwrap_or_default()
}

fn check_executor(key: &str, executor: Option<Table>) -> Result<()> {
    let Some(executor) = executor else { return Ok(()) };
    match executor.get("type").and_then(Value::as_str) {
        Some("http" | "spin") => {}
        Some("wagi") => return Err(ManifestError::NotServed(format!("{key} (wagi)"))),
        _ => return Err(ManifestError::invalid(key, "its `type` is neither `http` nor `wagi`")),
    }
    match executor.keys().find(|name| *name != "type") {
        Some(name) => Err(ManifestError::Syntax(unknown(key, name))),
        None => Ok(()),
    }
}
