//! The manifests: each is of the shape that its kind has, and all that they name is there.
//!
//! What a SpinApp may say is from the spin-operator's definition of it, `core.spinkube.dev/v1alpha1` as of
//! version 0.6.1.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize as _;
use serde_json::Value;
use system_tests::config;

use crate::{assert_settings_are_known, text};

/// Properties of `spec`, of which `executor` and `image` are required.
const SPEC: &[(&str, Kind)] = &[
    ("checks", Kind::Map),
    ("components", Kind::List),
    ("deploymentAnnotations", Kind::Map),
    ("enableAutoscaling", Kind::Boolean),
    ("executor", Kind::Text),
    ("image", Kind::Text),
    ("imagePullSecrets", Kind::List),
    ("invocationLimits", Kind::Map),
    ("podAnnotations", Kind::Map),
    ("podLabels", Kind::Map),
    ("replicas", Kind::Number),
    ("resources", Kind::Map),
    ("runtimeConfig", Kind::Map),
    ("serviceAccountName", Kind::Text),
    ("serviceAnnotations", Kind::Map),
    ("variables", Kind::List),
    ("volumeMounts", Kind::List),
    ("volumes", Kind::List),
];

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Boolean,
    List,
    Map,
    Number,
    Text,
}

fn kind(value: &Value) -> Option<Kind> {
    Some(match value {
        Value::Null => return None,
        Value::Bool(_) => Kind::Boolean,
        Value::Array(_) => Kind::List,
        Value::Object(_) => Kind::Map,
        Value::Number(_) => Kind::Number,
        Value::String(_) => Kind::Text,
    })
}

/// A map with no properties but these, each of its kind, and none of the first `required` missing.
#[track_caller]
fn assert_shape(value: &Value, properties: &[(&str, Kind)], required: usize) {
    let map = value.as_object().unwrap_or_else(|| panic!("not a map: {value}"));
    for (name, value) in map {
        let known = properties.iter().find(|(property, _)| property == name);
        let (_, wanted) = known.unwrap_or_else(|| panic!("no property `{name}`: {value}"));
        assert_eq!(kind(value), Some(*wanted), "{name}: {value}");
    }
    for (name, _) in &properties[..required] {
        assert!(map.contains_key(*name), "`{name}` is missing: {value}");
    }
}

/// Every document of a file.
fn documents(name: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(&text(&format!("kubernetes/{name}")))
        .map(|document| Value::deserialize(document).unwrap_or_else(|e| panic!("{name}: {e}")))
        .filter(|document| !document.is_null())
        .collect()
}

fn kustomization() -> Value {
    documents("kustomization.yaml").remove(0)
}

fn strings(list: &Value) -> Vec<&str> {
    list.as_array().expect("a list").iter().map(|item| item.as_str().expect("text")).collect()
}

/// Every resource of the kustomization.
fn resources() -> Vec<Value> {
    strings(&kustomization()["resources"]).into_iter().flat_map(documents).collect()
}

fn of_kind<'a>(resources: &'a [Value], kind: &str) -> BTreeMap<&'a str, &'a Value> {
    let of_kind = resources.iter().filter(|resource| resource["kind"] == kind);
    of_kind.map(|resource| (resource["metadata"]["name"].as_str().unwrap(), resource)).collect()
}

fn spin_toml() -> toml::Table {
    toml::from_str(&std::fs::read_to_string(config::manifest()).unwrap()).unwrap()
}

/// Components with a route, and the variables that each uses.
fn routed() -> BTreeMap<String, BTreeSet<String>> {
    let manifest = spin_toml();
    let triggers = manifest["trigger"]["http"].as_array().unwrap().iter();
    triggers
        .map(|trigger| {
            let id = trigger["component"].as_str().unwrap();
            let stanza = &manifest["component"][id];
            let values = stanza["variables"].as_table().unwrap().values();
            let hosts = stanza["allowed_outbound_hosts"].as_array().unwrap();
            let templates = values.chain(hosts).map(|template| template.as_str().unwrap());
            let used = templates.flat_map(|template| {
                let after = template.split("{{").skip(1);
                after.map(|rest| rest.split("}}").next().unwrap().trim().to_owned())
            });
            (id.to_owned(), used.collect())
        })
        .collect()
}

#[test]
fn every_spin_app_is_one() {
    let resources = resources();
    let executors = of_kind(&resources, "SpinAppExecutor");

    for (name, app) in of_kind(&resources, "SpinApp") {
        assert_eq!(app["apiVersion"], "core.spinkube.dev/v1alpha1", "{name}");
        let spec = &app["spec"];
        assert_shape(spec, SPEC, 0);
        assert!(spec["image"].is_string() && !strings(&spec["components"]).is_empty(), "{name}");
        // What the operator's webhook asks for.
        assert!(executors.contains_key(spec["executor"].as_str().unwrap()), "{name}");
        assert!(spec["replicas"].as_u64().unwrap() >= 1, "{name}");
        for check in ["readiness", "liveness"] {
            assert_shape(&spec["checks"][check], &[("httpGet", Kind::Map)], 1);
            assert_shape(&spec["checks"][check]["httpGet"], &[("path", Kind::Text)], 1);
        }
        assert_shape(&spec["resources"], &[("limits", Kind::Map), ("requests", Kind::Map)], 0);
        if !spec["runtimeConfig"].is_null() {
            assert_shape(&spec["runtimeConfig"], &[("loadFromSecret", Kind::Text)], 1);
        }
        for variable in spec["variables"].as_array().unwrap() {
            let properties =
                [("name", Kind::Text), ("value", Kind::Text), ("valueFrom", Kind::Map)];
            assert_shape(variable, &properties, 1);
            if !variable["valueFrom"].is_null() {
                assert_shape(&variable["valueFrom"], &[("secretKeyRef", Kind::Map)], 1);
                let reference =
                    [("key", Kind::Text), ("name", Kind::Text), ("optional", Kind::Boolean)];
                assert_shape(&variable["valueFrom"]["secretKeyRef"], &reference, 2);
            }
        }
    }
}

#[test]
fn each_routed_component_has_a_spin_app_with_its_variables_and_no_others() {
    let resources = resources();
    let apps = of_kind(&resources, "SpinApp");
    let routed = routed();
    let declared = spin_toml()["variables"].as_table().unwrap().clone();

    let expected: Vec<String> = routed.keys().map(|id| format!("zlh-{id}")).collect();
    assert_eq!(apps.keys().copied().collect::<Vec<_>>(), expected);
    for (id, used) in routed {
        let spec = &apps[format!("zlh-{id}").as_str()]["spec"];
        assert_eq!(strings(&spec["components"]), [id.as_str()]);
        let mut given = BTreeSet::new();
        for variable in spec["variables"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            let required =
                declared[name].get("required").is_some_and(|is| is.as_bool() == Some(true));
            let reference = &variable["valueFrom"]["secretKeyRef"];
            if reference.is_null() {
                // Spin wants a value of each required variable, whoever uses it.
                assert!(required && !used.contains(name), "{id}: {name}");
            } else {
                assert_eq!(reference["key"], name, "{id}");
                assert_eq!(
                    reference["optional"].as_bool().unwrap_or_default(),
                    !required,
                    "{name}"
                );
                given.insert(name.to_owned());
            }
        }
        assert_eq!(given, used, "{id}");
        let stores = &spin_toml()["component"][&id].get("key_value_stores").is_some();
        assert_eq!(!spec["runtimeConfig"].is_null(), *stores, "{id}");
    }
}

/// A route, whatever its parameters are called, and its component: as nginx has them.
fn led(line: &str) -> (String, String) {
    let (pattern, rest) = line.split_once("$ {").expect("a pattern");
    let component = rest.split("http://zlh-").nth(1).expect("a component");
    let (pattern, below) = match pattern.strip_suffix("(/.*)?") {
        Some(path) => (path, "/..."),
        None => (pattern, ""),
    };
    let route = pattern.replace("[^/]+", ":").replace("\\.", ".") + below;
    (route, component.split(';').next().expect("an end").to_owned())
}

/// The same, as spin.toml has them.
fn triggered(trigger: &toml::Value) -> (String, String) {
    let text = |name: &str| trigger[name].as_str().expect("text").to_owned();
    let route = text("route");
    let segments = route.split('/').map(|name| if name.starts_with(':') { ":" } else { name });
    (segments.collect::<Vec<_>>().join("/"), text("component"))
}

#[test]
fn each_route_leads_to_the_spin_app_of_its_component() {
    let routes = text("kubernetes/routes.conf");
    let manifest = spin_toml();
    let triggers = manifest["trigger"]["http"].as_array().unwrap();

    let led: BTreeSet<_> = routes.split("location ~ ^").skip(1).map(led).collect();

    assert_eq!(led, triggers.iter().map(triggered).collect());
    assert_eq!(led.len(), triggers.len());
}

#[test]
fn what_the_manifests_name_is_there() {
    let resources = resources();
    let kustomization = kustomization();
    let (deployments, services) =
        (of_kind(&resources, "Deployment"), of_kind(&resources, "Service"));
    let claims = of_kind(&resources, "PersistentVolumeClaim");
    let operations = std::fs::read_to_string(config::root().join("docs/operations.md")).unwrap();
    let generated: BTreeSet<&str> = kustomization["configMapGenerator"]
        .as_array()
        .unwrap()
        .iter()
        .map(|map| {
            for file in ["files", "envs"].iter().filter_map(|key| map[key].as_array()).flatten() {
                text(&format!("kubernetes/{}", file.as_str().unwrap()));
            }
            map["name"].as_str().unwrap()
        })
        .collect();
    let images: BTreeSet<&str> = kustomization["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|image| image["name"].as_str().unwrap())
        .collect();

    // Secrets are made by the commands of the documentation.
    for secret in ["zlh-variables", "zlh-runtime-config", "zlh-secrets"] {
        assert!(operations.contains(&format!("secret generic {secret} ")), "{secret}");
    }
    for (name, deployment) in &deployments {
        let pod = &deployment["spec"]["template"];
        assert_eq!(
            deployment["spec"]["selector"]["matchLabels"], pod["metadata"]["labels"],
            "{name}"
        );
        for volume in pod["spec"]["volumes"].as_array().unwrap() {
            let config_map = volume["configMap"]["name"].as_str();
            assert!(config_map.is_none_or(|name| generated.contains(name)), "{volume}");
            let claim = volume["persistentVolumeClaim"]["claimName"].as_str();
            assert!(claim.is_none_or(|name| claims.contains_key(name)), "{volume}");
            let secret = volume["secret"]["secretName"].as_str();
            assert!(secret.is_none_or(|name| name == "zlh-secrets"), "{volume}");
        }
        for container in pod["spec"]["containers"].as_array().unwrap() {
            assert!(images.contains(container["image"].as_str().unwrap()), "{container}");
            let ports: Vec<_> =
                container["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();
            for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
                let probe = &container[probe];
                for port in [&probe["httpGet"]["port"], &probe["tcpSocket"]["port"]] {
                    assert!(port.is_null() || ports.contains(&port), "{port}");
                }
            }
        }
    }
    for (name, service) in services {
        let selector = &service["spec"]["selector"];
        let of = deployments
            .values()
            .find(|deployment| deployment["spec"]["selector"]["matchLabels"] == *selector);
        let pod = &of.unwrap_or_else(|| panic!("{name} selects nothing"))["spec"]["template"];
        for port in service["spec"]["ports"].as_array().unwrap() {
            let ports = pod["spec"]["containers"][0]["ports"].as_array().unwrap();
            assert!(ports.iter().any(|own| own["name"] == port["targetPort"]), "{name}: {port}");
        }
    }
    let names: BTreeSet<&str> = of_kind(&resources, "SpinApp")
        .into_values()
        .map(|app| app["spec"]["image"].as_str().unwrap())
        .collect();
    assert!(names.is_subset(&images), "{names:?}");
    assert_settings_are_known("kubernetes/settings.env");
}

#[test]
fn the_proxy_is_started_with_flags_that_it_has() {
    let resources = resources();
    let container =
        &of_kind(&resources, "Deployment")["zlh"]["spec"]["template"]["spec"]["containers"][0];
    let arguments = strings(&container["args"]);

    let output = std::process::Command::new(config::zlh())
        .args([arguments[0], "--help"])
        .output()
        .expect("zlh starts");

    let help = String::from_utf8_lossy(&output.stdout).into_owned();
    for flag in &arguments[1..] {
        let (flag, _) = flag.split_once('=').unwrap();
        assert!(help.contains(&format!("{flag} <")), "{flag}: {help}");
    }
}
