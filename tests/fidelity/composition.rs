//! Dependencies and middleware, each with what it inherits and no more.

use system_tests::app::{App, AppOptions};
use system_tests::stub::Stub;

/// `asker` with everything granted, and a dependency that inherits what is said.
async fn asker(inherit: &str, outbound: &str) -> App {
    App::of(AppOptions {
        manifest: format!(
            "[[trigger.http]]\nroute = '/...'\ncomponent = 'asker'\n\
             [component.asker]\nsource = '{{asker}}'\nfiles = ['a.txt']\n\
             environment = {{ A = 'env' }}\nvariables = {{ v = 'variable' }}\n\
             key_value_stores = ['default']\nsqlite_databases = ['default']\n\
             allowed_outbound_hosts = ['http://{outbound}']\n\
             [component.asker.dependencies]\n\
             'test:answer@1.0.0' = {{ component = 'answer'{inherit} }}\n\
             [component.answer]\nsource = '{{answer}}'\n"
        ),
        files: vec![("a.txt", "file")],
        ..AppOptions::default()
    })
    .await
}

/// What the dependency makes of each capability.
async fn answers(app: &App, stub: &Stub) -> Vec<String> {
    let mut answers = Vec::new();
    let get = format!("get+http://{}/", stub.address);
    for question in
        ["env+A", "variable+v", "file+/a.txt", "key-value+default", "sqlite+default", &get]
    {
        answers.push(app.text(&format!("/?{question}")).await);
    }
    answers
}

#[tokio::test]
async fn a_dependency_inherits_nothing_unless_told() {
    let stub = Stub::start(|_| (200, String::new())).await;
    let app = asker("", &stub.address.to_string()).await;

    let answers = answers(&app, &stub).await;

    assert_eq!(answers[0], "error: NotPresent");
    assert!(answers[1].starts_with("error: Error::Other"), "{}", answers[1]);
    assert!(answers[2].starts_with("error: "), "{}", answers[2]);
    assert_eq!(answers[3], "error: Error::AccessDenied");
    assert_eq!(answers[4], "error: Error::AccessDenied");
    assert!(answers[5].contains("is not permitted"), "{}", answers[5]);
    assert!(stub.asked().is_empty(), "{:?}", stub.asked());
}

#[tokio::test]
async fn a_dependency_inherits_all_if_told() {
    let stub = Stub::start(|_| (200, String::new())).await;
    let app = asker(", inherit_configuration = true", &stub.address.to_string()).await;

    let answers = answers(&app, &stub).await;

    assert_eq!(
        answers,
        ["ok: env", "ok: variable", "ok: file", "ok: opened", "ok: opened", "ok: 200 OK"]
    );
}

#[tokio::test]
async fn a_dependency_inherits_each_group_alone() {
    let stub = Stub::start(|_| (200, String::new())).await;
    let groups = [
        "environment",
        "variables",
        "files",
        "key_value_stores",
        "sqlite_databases",
        "allowed_outbound_hosts",
    ];
    for (index, group) in groups.into_iter().enumerate() {
        let inherit = format!(", inherit_configuration = ['{group}']");
        let app = asker(&inherit, &stub.address.to_string()).await;

        let answers = answers(&app, &stub).await;

        let granted: Vec<usize> =
            (0..answers.len()).filter(|which| answers[*which].starts_with("ok: ")).collect();
        assert_eq!(granted, [index], "{group}: {answers:?}");
    }
}

#[tokio::test]
async fn a_dependency_may_be_a_file_and_a_whole_component_may_inherit() {
    let app = App::start(
        "[[trigger.http]]\nroute = '/...'\ncomponent = 'asker'\n\
         [component.asker]\nsource = '{asker}'\nvariables = { v = 'variable' }\n\
         dependencies_inherit_configuration = true\n\
         [component.asker.dependencies]\n'test:answer/answer@1.0.0' = { path = '{answer}' }\n",
    )
    .await;

    assert_eq!(app.text("/?variable+v").await, "ok: variable");
}

#[tokio::test]
async fn a_dependency_that_does_not_fit_stops_the_start() {
    let app = |dependency: &str| {
        format!(
            "[[trigger.http]]\nroute = '/...'\ncomponent = 'asker'\n\
             [component.asker]\nsource = '{{asker}}'\n[component.asker.dependencies]\n{dependency}\n"
        )
    };
    for (dependency, part) in [
        ("'test:other@1.0.0' = { path = '{answer}' }", "the component does not import it"),
        (
            "'test:answer@1.0.0' = { path = '{probe}' }",
            "it does not export `test:answer/answer@1.0.0`",
        ),
        ("'test:answer@1.0.0' = { path = 'none.wasm' }", "none.wasm"),
        ("'test:answer@1.0.0' = { path = 'spin.toml' }", "is not a component"),
    ] {
        let error = App::refused(&app(dependency)).await;
        assert!(error.contains(part), "{error}");
    }
}

const WRAPPED: &str = "[component.probe]\nsource = '{probe}'\nvariables = { mark = 'inherited' }\n\
    [component.wrapper]\nsource = '{wrapper}'\n";

#[tokio::test]
async fn middleware_stands_around_a_component_outermost_first_and_inherits_what_it_is_told() {
    let app = App::start(&format!(
        "{WRAPPED}[[trigger.http]]\nroute = '/...'\ncomponent = 'probe'\n\
         [[trigger.http.dependencies.middleware]]\ncomponent = 'wrapper'\n\
         inherit_configuration = ['variables']\n\
         [[trigger.http.dependencies.middleware]]\npath = '{{wrapper}}'\n"
    ))
    .await;

    let reply = app.get("/request").await.expect(200);
    let refused = app.get("/refused").await;

    let text = reply.text();
    let marks: Vec<&str> = text.lines().filter(|line| line.starts_with("x-wrapped: ")).collect();
    assert_eq!(marks.len(), 2, "{text}");
    assert_eq!(marks[0], "x-wrapped: inherited", "the outer one is first on the way in");
    assert!(marks[1].starts_with("x-wrapped: unmarked ("), "{}", marks[1]);
    let back: Vec<_> = reply.headers.get_all("x-wrapped").iter().collect();
    assert_eq!(back.len(), 2);
    assert_eq!(back[1], "inherited", "and last on the way out");
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn middleware_of_one_trigger_is_not_around_another() {
    let app = App::start(&format!(
        "{WRAPPED}[[trigger.http]]\nroute = '/plain/...'\ncomponent = 'probe'\n\
         [[trigger.http]]\nroute = '/wrapped/...'\ncomponent = 'probe'\n\
         dependencies.middleware = [{{ component = 'wrapper' }}]\n"
    ))
    .await;

    let plain = app.text("/plain/request").await;
    let wrapped = app.text("/wrapped/request").await;

    assert!(!plain.contains("x-wrapped"), "{plain}");
    assert!(wrapped.contains("x-wrapped"), "{wrapped}");
}

#[tokio::test]
async fn what_is_no_middleware_stops_the_start() {
    let error = App::refused(&format!(
        "{WRAPPED}[[trigger.http]]\nroute = '/...'\ncomponent = 'probe'\n\
         dependencies.middleware = [{{ path = '{{probe-p2}}' }}]\n"
    ))
    .await;

    assert!(error.contains("it does not import `wasi:http/handler@0.3.0`"), "{error}");
}
