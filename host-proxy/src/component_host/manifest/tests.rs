//! What a manifest must say, and that a wrong one is told where.

use super::*;

const HEAD: &str = "spin_manifest_version = 2\n[application]\nname = 'app'\n";
const COMPONENT: &str = "[component.x]\nsource = 'x.wasm'\n";

fn parse(rest: &str) -> Result<App, ManifestError> {
    App::parse(&format!("{HEAD}{rest}"), Path::new("/folder"))
}

fn error(rest: &str) -> String {
    parse(rest).unwrap_err().to_string()
}

#[test]
fn a_complete_manifest_is_understood() {
    let app = parse(
        r#"
        version = "1.0.0"
        description = "d"
        authors = ["a"]
        [application.trigger.http]
        base = "/"
        [variables]
        one = { default = "1", secret = true, description = "d" }
        two = { required = true }
        [[trigger.http]]
        id = "first"
        route = "/a/..."
        component = "x"
        executor = { type = "http" }
        [[trigger.http]]
        route = { private = true }
        component = "y"
        [component.x]
        source = "target/x.wasm"
        description = "d"
        environment = { A = "b" }
        allowed_outbound_hosts = ["http://{{ one }}"]
        key_value_stores = ["default", "agents"]
        sqlite_databases = ["default"]
        [component.x.variables]
        v = "{{ two }}"
        [component.x.dependencies]
        "a:b@1.0.0" = { component = "y", inherit_configuration = ["variables"] }
        "a:c@1.0.0" = { path = "c.wasm", export = "d", inherit_configuration = true }
        [component.x.build]
        command = "make"
        workdir = "w"
        watch = ["src/**"]
        [component.y]
        source = "/absolute/y.wasm"
        "#,
    )
    .unwrap();

    let x = &app.components["x"];
    assert_eq!(x.source, Path::new("/folder/target/x.wasm"));
    assert_eq!(app.components["y"].source, Path::new("/absolute/y.wasm"));
    assert_eq!(x.key_value_stores.len(), 2);
    assert_eq!(x.dependencies[0].inherit, [Capability::Variables].into());
    assert_eq!(x.dependencies[1].inherit, Capability::ALL.into());
    assert_eq!(app.variables["two"].default, None);
    let routes: Vec<&str> = app.routes.iter().map(|route| route.route.as_str()).collect();
    assert_eq!(routes, ["/a/..."]);
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    for rest in [
        "surprise = 1",
        "[component.x]\nsource = 'x'\nsurprise = 1",
        "[component.x]\nsource = 'x'\n[component.x.build]\ncommand = 'a'\nsurprise = 1",
        "[component.x]\nsource = 'x'\n[component.x.dependencies]\n'a:b@1.0.0' = { surprise = 1 }",
        "[variables]\nv = { default = '', surprise = 1 }",
        "[[trigger.http]]\nroute = '/'\nsurprise = 1",
    ] {
        let error = error(rest);
        assert!(error.contains("surprise"), "{error}");
    }
}

#[test]
fn what_only_spin_serves_is_refused_by_its_key() {
    let trigger = "[[trigger.http]]\nroute = '/'\n";
    for (rest, key) in [
        ("targets = ['a']".to_owned(), "application.targets"),
        ("[application.trigger.http]\nbase = '/b'".into(), "application.trigger"),
        ("[[trigger.redis]]\nchannel = 'a'".into(), "trigger.redis"),
        (format!("{trigger}static_response = {{}}"), "trigger.http[0].static_response"),
        (format!("{trigger}dependencies.middleware = []"), "trigger.http[0].dependencies"),
        (format!("{trigger}executor = {{ type = 'wagi' }}"), "trigger.http[0].executor"),
        (format!("{trigger}component = {{ source = 'x' }}"), "trigger.http[0].component (inline)"),
        (format!("{COMPONENT}files = ['a']"), "component.x.files"),
        (format!("{COMPONENT}exclude_files = ['a']"), "component.x.exclude_files"),
        (format!("{COMPONENT}ai_models = ['a']"), "component.x.ai_models"),
        (format!("{COMPONENT}targets = ['a']"), "component.x.targets"),
        (format!("{COMPONENT}tool = {{}}"), "component.x.tool"),
        (format!("{COMPONENT}profile = {{}}"), "component.x.profile"),
        (format!("{COMPONENT}allowed_http_hosts = []"), "component.x.allowed_http_hosts"),
        (
            "[component.x]\nsource = { url = 'https://a', digest = 'b' }".into(),
            "component.x.source (other than a local file)",
        ),
        (
            format!("{COMPONENT}[component.x.dependencies]\n'a:b' = '1.0'"),
            "component.x.dependencies.\"a:b\" (from a registry)",
        ),
        (
            format!("{COMPONENT}[component.x.dependencies]\n'a:b' = {{ version = '1.0' }}"),
            "component.x.dependencies.\"a:b\".version",
        ),
    ] {
        assert_eq!(error(&rest), format!("`{key}` is not served by this host"));
    }
}

#[test]
fn a_wrong_value_is_told_with_its_key() {
    let trigger = "[[trigger.http]]\ncomponent = 'x'\n";
    for (rest, start) in [
        ("[variables]\nUpper = { default = '' }".to_owned(), "`variables.Upper`: "),
        ("[variables]\nv = {}".into(), "`variables.v`: needs a `default`"),
        ("[variables]\nv = { default = '', required = true }".into(), "`variables.v`: a required"),
        ("[[trigger.http]]\nroute = '/'".into(), "`trigger.http[0].component`: is missing"),
        (
            format!("{trigger}route = '/'"),
            "`trigger.http[0].component`: there is no `[component.x]`",
        ),
        (format!("{COMPONENT}{trigger}route = 1"), "`trigger.http[0].route`: "),
        (format!("{COMPONENT}{trigger}route = {{ private = false }}"), "`trigger.http[0].route`: "),
        (format!("{COMPONENT}sqlite_databases = ['other']"), "`component.x.sqlite_databases`: "),
        (format!("{COMPONENT}variables = {{ V = '' }}"), "`component.x.variables.V`: "),
        (
            format!("{COMPONENT}[component.x.dependencies]\n'a:b' = {{}}"),
            "`component.x.dependencies.\"a:b\"`: needs either",
        ),
        (
            format!(
                "{COMPONENT}[component.x.dependencies]\n\
                 'a:b' = {{ component = 'y', inherit_configuration = ['all'] }}"
            ),
            "`component.x.dependencies.\"a:b\".inherit_configuration`: \"all\" is not",
        ),
    ] {
        let error = error(&rest);
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn only_version_2_is_read() {
    let error =
        App::parse("spin_manifest_version = 1\napplication = { name = 'a' }", Path::new(""));

    assert_eq!(error.unwrap_err().to_string(), "`spin_manifest_version`: only version 2 is served");
}
