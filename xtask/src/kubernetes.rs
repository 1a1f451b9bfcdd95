//! `cargo xtask kubernetes`: writes what of deploy/kubernetes follows from spin.toml, a SpinApp for each component
//! that has a route, and the routes that lead to them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::shell::phase;
use crate::workspace::Workspace;

/// What of spin.toml decides how a component is deployed.
#[derive(Deserialize)]
struct Manifest {
    variables: BTreeMap<String, Variable>,
    component: BTreeMap<String, Component>,
    trigger: Triggers,
}

#[derive(Deserialize)]
struct Variable {
    #[serde(default)]
    required: bool,
}

#[derive(Deserialize)]
struct Component {
    #[serde(default)]
    variables: BTreeMap<String, String>,
    #[serde(default)]
    allowed_outbound_hosts: Vec<String>,
    #[serde(default)]
    key_value_stores: Vec<String>,
}

#[derive(Deserialize)]
struct Triggers {
    http: Vec<Trigger>,
}

#[derive(Deserialize)]
struct Trigger {
    route: String,
    component: String,
}

/// Writes the files.
///
/// # Errors
/// When spin.toml says what this does not understand, or a file cannot be written.
pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    phase("Writing what of deploy/kubernetes follows from spin.toml");
    for (path, text) in files(&workspace.root)? {
        let path = workspace.root.join(path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The files by their path in the repository.
fn files(root: &Path) -> anyhow::Result<[(&'static str, String); 2]> {
    let text = fs::read_to_string(root.join("spin.toml")).context("could not read spin.toml")?;
    let manifest: Manifest = toml::from_str(&text).context("spin.toml is not understood")?;
    Ok([
        ("deploy/kubernetes/components.yaml", manifest.spin_apps()?),
        ("deploy/kubernetes/routes.conf", manifest.routes()?),
    ])
}

impl Manifest {
    fn spin_apps(&self) -> anyhow::Result<String> {
        let mut text = "# Written by `cargo xtask kubernetes` from spin.toml.\n".to_owned();
        let routed: BTreeSet<&str> =
            self.trigger.http.iter().map(|trigger| trigger.component.as_str()).collect();
        for id in routed {
            let component = self.component.get(id).with_context(|| format!("no component {id}"))?;
            write!(
                text,
                "---\n\
                 apiVersion: core.spinkube.dev/v1alpha1\n\
                 kind: SpinApp\n\
                 metadata:\n  name: zlh-{id}\n\
                 spec:\n  image: zlh-components\n  executor: containerd-shim-spin\n  \
                 components:\n    - {id}\n  replicas: 2\n  \
                 podLabels:\n    app.kubernetes.io/part-of: zlh-components\n    \
                 app.kubernetes.io/component: {id}\n  \
                 invocationLimits:\n    memory: 128Mi\n  \
                 resources:\n    requests:\n      cpu: 100m\n      memory: 128Mi\n    \
                 limits:\n      memory: 1Gi\n  \
                 checks:\n"
            )?;
            for check in ["readiness", "liveness"] {
                let health = "/.well-known/spin/health";
                write!(text, "    {check}:\n      httpGet:\n        path: {health}\n")?;
            }
            if !component.key_value_stores.is_empty() {
                text.push_str("  runtimeConfig:\n    loadFromSecret: zlh-runtime-config\n");
            }
            self.write_variables(&mut text, component)?;
        }
        Ok(text)
    }

    /// What the component uses is in the Secret; what else Spin requires of any component is a word.
    fn write_variables(&self, text: &mut String, component: &Component) -> anyhow::Result<()> {
        text.push_str("  variables:\n");
        let templates = component.variables.values().chain(&component.allowed_outbound_hosts);
        let used: BTreeSet<&str> = templates.flat_map(|template| names(template)).collect();
        if let Some(unknown) = used.iter().find(|name| !self.variables.contains_key(**name)) {
            bail!("spin.toml does not declare the variable {unknown}");
        }
        for (name, variable) in &self.variables {
            if used.contains(name.as_str()) {
                write!(
                    text,
                    "    - name: {name}\n      valueFrom:\n        secretKeyRef:\n          \
                     name: zlh-variables\n          key: {name}\n"
                )?;
                if !variable.required {
                    text.push_str("          optional: true\n");
                }
            } else if variable.required {
                write!(text, "    - name: {name}\n      value: withheld\n")?;
            }
        }
        Ok(())
    }

    /// Locations of nginx. No two routes overlap, so that their order means nothing.
    fn routes(&self) -> anyhow::Result<String> {
        let mut text = "\
            # Written by `cargo xtask kubernetes` from spin.toml.\n\
            server {\n    \
                listen 8080;\n    \
                server_tokens off;\n    \
                access_log off;\n    \
                # zlh bounds bodies itself.\n    \
                client_max_body_size 0;\n    \
                proxy_http_version 1.1;\n    \
                proxy_request_buffering off;\n    \
                proxy_buffering off;\n    \
                proxy_set_header Connection \"\";\n    \
                proxy_set_header Host $http_host;\n    \
                error_page 502 504 = @unavailable;\n\n    \
                location / {\n        return 404;\n    }\n    \
                location @unavailable {\n        \
                    default_type application/json;\n        \
                    add_header Retry-After 1 always;\n        \
                    return 503 '{\"error\":\"the component does not answer\",\"code\":\"unavailable\"}';\n    \
                }\n"
        .to_owned();
        for Trigger { route, component } in &self.trigger.http {
            let pattern = pattern(route)?;
            write!(
                text,
                "    location ~ ^{pattern}$ {{\n        proxy_pass http://zlh-{component};\n    }}\n"
            )?;
        }
        text.push_str("}\n");
        Ok(text)
    }
}

/// Variables in a template such as `{{ a }}:{{ b }}`.
fn names(template: &str) -> impl Iterator<Item = &str> {
    template.split("{{").skip(1).filter_map(|rest| Some(rest.split_once("}}")?.0.trim()))
}

/// A route of Spin as a regular expression: `:id` is one segment, `/...` is anything below, or nothing.
fn pattern(route: &str) -> anyhow::Result<String> {
    let (path, rest) = match route.strip_suffix("/...") {
        Some(path) => (path, "(/.*)?"),
        None => (route, ""),
    };
    let mut pattern = String::new();
    for segment in path.split('/').skip(1) {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if segment.starts_with(':') {
            pattern.push_str("/[^/]+");
        } else if !segment.is_empty() && segment.chars().all(plain) {
            pattern.push('/');
            pattern.push_str(&segment.replace('.', "\\."));
        } else {
            bail!("the route {route} of spin.toml is not understood");
        }
    }
    Ok(pattern + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_repository_is_what_spin_toml_says() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();

        for (path, text) in files(root).unwrap() {
            let written = fs::read_to_string(root.join(path)).unwrap();
            assert!(written == text, "{path} is old: `cargo xtask kubernetes` writes it");
        }
    }

    #[test]
    fn a_route_is_the_same_set_of_paths_as_on_spin() {
        assert_eq!(pattern("/api/health").unwrap(), "/api/health");
        assert_eq!(pattern("/api/auth/...").unwrap(), "/api/auth(/.*)?");
        assert_eq!(pattern("/api/dev/:id/x/...").unwrap(), "/api/dev/[^/]+/x(/.*)?");
        assert_eq!(pattern("/.well-known/jwks.json").unwrap(), r"/\.well-known/jwks\.json");
        assert_eq!(pattern("/...").unwrap(), "(/.*)?");
        for route in ["/a b", "/a//b", "/{x}"] {
            pattern(route).unwrap_err();
        }
    }

    #[test]
    fn every_variable_of_a_template_is_found() {
        assert_eq!(names("{{ a }}:{{b}}").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(names("none").count(), 0);
    }
}
