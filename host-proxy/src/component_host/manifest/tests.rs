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
        targets = ["spin-up:3.3"]
        [application.trigger.http]
        base = "/"
        [application.tool.lint]
        level = "high"
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
        component = "z"
        [[trigger.http]]
        route = "/moved"
        static_response = { status_code = 302, headers = { location = "/a" }, body = "b" }
        [component.x]
        source = "target/x.wasm"
        description = "d"
        environment = { A = "b" }
        files = ["a/*", { source = "b", destination = "/c" }]
        exclude_files = ["a/d"]
        allowed_outbound_hosts = ["http://{{ one }}"]
        key_value_stores = ["default", "agents"]
        sqlite_databases = ["default"]
        ai_models = []
        targets = ["spin-up:3.3"]
        [component.x.variables]
        v = "{{ two }}"
        [component.x.dependencies]
        "a:b@1.0.0" = { component = "y", inherit_configuration = ["variables"] }
        "a:c/d@1.0.0" = { path = "c.wasm", export = "d", inherit_configuration = true }
        [component.x.build]
        command = ["make", "make install"]
        workdir = "w"
        watch = ["src/**"]
        [component.x.tool.zlh]
        memory_bytes = 1048576
        [component.x.tool.other]
        anything = true
        [component.x.profile.debug]
        source = "target/debug/x.wasm"
        environment = { A = "c" }
        dependencies = {}
        build = { command = "make debug" }
        [component.y]
        source = "/absolute/y.wasm"
        [component.z]
        source = "z.wasm"
        "#,
    )
    .unwrap();

    let x = &app.components["x"];
    assert_eq!((app.name.as_str(), app.version.as_str()), ("app", "1.0.0"));
    assert_eq!(x.source, Path::new("/folder/target/x.wasm"));
    assert_eq!(app.components["y"].source, Path::new("/absolute/y.wasm"));
    assert_eq!(x.key_value_stores.len(), 2);
    assert_eq!(x.files.len(), 2);
    assert_eq!(x.environment["A"], "b");
    assert_eq!(x.limits.memory_bytes, Some(1 << 20));
    assert_eq!(x.dependencies[0].inherit, [Capability::Variables].into());
    assert_eq!(x.dependencies[1].inherit, Capability::ALL.into());
    assert_eq!(app.variables["two"].default, None);
    let routes: Vec<_> = app.routes.iter().map(|route| route.route.as_deref()).collect();
    assert_eq!(routes, [Some("/a/..."), None, Some("/moved")]);
    let Target::Static(fixed) = &app.routes[2].target else { panic!("not static") };
    assert_eq!((fixed.status.as_u16(), &*fixed.body), (302, b"b".as_slice()));
    assert_eq!(fixed.headers["location"], "/a");
}

/// Component, route, and how many middlewares are around it.
fn wiring(app: &App) -> Vec<(String, String, usize)> {
    let found = app.routes.iter().map(|route| {
        let Target::Component(id) = &route.target else { panic!("not a component") };
        let wrapped = app.components[id].middleware.len();
        (id.clone(), route.route.clone().unwrap_or_default(), wrapped)
    });
    found.collect()
}

#[test]
fn a_component_that_two_triggers_wrap_differently_is_there_twice() {
    let app = parse(&format!(
        "{COMPONENT}[component.m]\nsource = 'm'\n\
         [[trigger.http]]\nroute = '/plain'\ncomponent = 'x'\n\
         [[trigger.http]]\nroute = '/wrapped'\ncomponent = 'x'\n\
         dependencies.middleware = [{{ component = 'm' }}, {{ path = 'p' }}]\n\
         [[trigger.http]]\nid = 'named'\nroute = '/named'\ncomponent = 'x'\n\
         dependencies.middleware = [{{ path = 'p', inherit_configuration = true }}]\n"
    ))
    .unwrap();

    assert_eq!(
        wiring(&app),
        [("x", "/plain", 0), ("x-for-http-trigger1", "/wrapped", 2), ("x-for-named", "/named", 1)]
            .map(|(id, route, wrapped)| (id.to_owned(), route.to_owned(), wrapped))
    );
}

#[test]
fn a_component_of_one_trigger_keeps_its_id_whatever_is_around_it() {
    let app = parse(&format!(
        "{COMPONENT}[[trigger.http]]\nroute = '/'\ncomponent = 'x'\n\
         dependencies.middleware = [{{ path = 'p' }}]\n"
    ))
    .unwrap();

    assert_eq!(wiring(&app), [("x".to_owned(), "/".to_owned(), 1)]);
}

#[test]
fn a_component_may_be_written_in_its_trigger() {
    let app = parse(
        "[[trigger.http]]\nid = 'one'\nroute = '/1'\ncomponent = { source = 'a' }\n\
         [[trigger.http]]\nid = 'not_an_id'\nroute = '/2'\ncomponent = { source = 'b' }\n",
    )
    .unwrap();

    let ids: Vec<_> = wiring(&app).into_iter().map(|(id, ..)| id).collect();
    assert_eq!(ids, ["one-component", "inline-component1"]);
    assert_eq!(app.components["one-component"].source, Path::new("/folder/a"));
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
        "[application.trigger.http]\nsurprise = 1",
        "[component.x]\nsource = 'x'\n[component.x.profile.p]\nsurprise = 1",
        "[component.x]\nsource = 'x'\n[component.x.tool.zlh]\nsurprise = 1",
        "[[trigger.http]]\nroute = '/'\nstatic_response = { surprise = 1 }",
        "[[trigger.http]]\nroute = '/'\ncomponent = { source = 'x', surprise = 1 }",
        "[[trigger.http]]\nroute = '/'\ncomponent = 'x'\nexecutor = { type = 'http', surprise = 1 }",
        "[component.x]\nsource = 'x'\n[[trigger.http]]\nroute = '/'\ncomponent = 'x'\n\
         dependencies.surprise = []",
    ] {
        let error = error(rest);
        assert!(error.contains("surprise"), "{error}");
    }
}

#[test]
fn what_only_spin_serves_is_refused_by_its_key() {
    let trigger = "[[trigger.http]]\nroute = '/'\n";
    for (rest, key) in [
        ("[application.trigger.redis]\naddress = 'a'".into(), "application.trigger.redis"),
        ("[[trigger.redis]]\nchannel = 'a'".to_owned(), "trigger.redis"),
        (format!("{trigger}executor = {{ type = 'wagi' }}"), "trigger.http[0].executor (wagi)"),
        (format!("{trigger}components = {{}}"), "trigger.http[0].components"),
        (format!("{COMPONENT}ai_models = ['a']"), "component.x.ai_models"),
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
        (
            format!(
                "{COMPONENT}{trigger}component = 'x'\ndependencies.middleware = [{{ url = 'a' }}]"
            ),
            "trigger.http[0].dependencies.middleware[0].url",
        ),
    ] {
        assert_eq!(error(&rest), format!("`{key}` is not served by this host"));
    }
}

#[test]
fn a_wrong_value_is_told_with_its_key() {
    let trigger = "[[trigger.http]]\ncomponent = 'x'\n";
    let depends = |on: &str| format!("{COMPONENT}[component.x.dependencies]\n{on}\n");
    for (rest, start) in [
        ("[application.trigger.http]\nbase = '/b'".to_owned(), "`application.trigger.http.base`: "),
        ("[application.tool.zlh]".into(), "`application.tool.zlh`: limits are each component's"),
        ("[variables]\nUpper = { default = '' }".into(), "`variables.Upper`: "),
        ("[variables]\nv = {}".into(), "`variables.v`: must be `required` OR have a `default`"),
        (
            "[variables]\nv = { default = '', required = true }".into(),
            "`variables.v`: must be `required` OR",
        ),
        (
            "[[trigger.http]]\nroute = '/'".into(),
            "`trigger.http[0]`: Triggers must specify either component or static_response - \
             http-trigger1 has neither",
        ),
        (
            format!("{COMPONENT}{trigger}route = '/'\nstatic_response = {{}}"),
            "`trigger.http[0]`: Triggers must specify either component or static_response - \
             x-http-trigger has both",
        ),
        (
            "[[trigger.http]]\nroute = '/'\nstatic_response = { status_code = 99 }".into(),
            "`trigger.http[0].static_response.status_code`: 99",
        ),
        (
            "[[trigger.http]]\nroute = '/'\nstatic_response = { headers = { 'a b' = '' } }".into(),
            "`trigger.http[0].static_response.headers.a b`: ",
        ),
        (
            format!("{trigger}route = '/'"),
            "`trigger.http[0].component`: there is no `[component.x]`",
        ),
        (
            format!("{COMPONENT}{trigger}route = 1"),
            "`trigger.http[0].route`: route must be a string",
        ),
        (format!("{COMPONENT}{trigger}route = {{ private = false }}"), "`trigger.http[0].route`: "),
        (
            format!("{COMPONENT}{trigger}route = '/'\nexecutor = {{}}"),
            "`trigger.http[0].executor`: ",
        ),
        ("[component.a_b]\nsource = 'x'".into(), "`component.a_b`: an id is words"),
        (format!("{COMPONENT}key_value_stores = ['a b']"), "`component.x.key_value_stores`: `a b`"),
        (format!("{COMPONENT}variables = {{ V = '' }}"), "`component.x.variables.V`: "),
        (
            format!("{COMPONENT}[component.x.tool.zlh]\nreuse_count = 0"),
            "`component.x.tool.zlh.reuse_count`: ",
        ),
        (depends("'a:b' = {}"), "`component.x.dependencies.\"a:b\"`: needs either"),
        (
            depends("'a:b' = { component = 'y', inherit_configuration = ['all'] }"),
            "`component.x.dependencies.\"a:b\".inherit_configuration`: \"all\" is not",
        ),
        (
            depends("'a:b' = { path = 'y', export = 'e' }"),
            "`component.x.dependencies.\"a:b\".export`: using an export",
        ),
        (
            depends("'a:b/c@1.0.0' = { path = 'y' }\n'a:b@1.2.0' = { path = 'y' }"),
            "`component.x.dependencies.\"a:b@1.2.0\"`: conflicts with `a:b/c@1.0.0`",
        ),
        (
            depends("'a:b' = { component = 'none' }"),
            "`component.x.dependencies.\"a:b\"`: dependency ID none does not exist",
        ),
        (
            depends("'a:b' = { component = 'y' }\n[component.y]\nsource = 'y'\nfiles = ['f']"),
            "`component.x.dependencies.\"a:b\"`: Dependencies may not have their own resources",
        ),
        (
            format!(
                "{COMPONENT}dependencies_inherit_configuration = false\n[component.x.dependencies]\n\
                 'a:b' = {{ path = 'y', inherit_configuration = true }}"
            ),
            "`component.x.dependencies.\"a:b\".inherit_configuration`: `dependencies_inherit",
        ),
    ] {
        let error = error(&rest);
        assert!(error.starts_with(start), "{error}");
    }
}

#[test]
fn interfaces_and_incompatible_versions_of_one_package_may_have_providers_of_their_own() {
    let path = |name: &str| format!("'{name}' = {{ path = 'y' }}\n");
    for (one, other) in
        [("a:b/c@1.0.0", "a:b/d@1.0.0"), ("a:b@1.0.0", "a:b@2.0.0"), ("a:b@0.1.0", "a:b@0.2.0")]
    {
        let both = format!("{}{}", path(one), path(other));
        let app = parse(&format!("{COMPONENT}[component.x.dependencies]\n{both}")).unwrap();
        assert_eq!(app.components["x"].dependencies.len(), 2, "{one} and {other}");
    }
}

#[test]
fn only_version_2_is_read() {
    let error =
        App::parse("spin_manifest_version = 1\napplication = { name = 'a' }", Path::new(""));

    assert_eq!(error.unwrap_err().to_string(), "`spin_manifest_version`: only version 2 is served");
}
