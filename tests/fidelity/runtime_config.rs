//! What is behind the labels that a stanza grants, and where variables come from (H04).

use system_tests::app::{App, AppOptions};
use system_tests::databases::Databases;

const TWO: &str = "[[trigger.http]]\nroute = '/p3/...'\ncomponent = 'p3'\n\
                   [[trigger.http]]\nroute = '/p2/...'\ncomponent = 'p2'\n\
                   [component.p3]\nsource = '{probe}'\n";

fn stores(labels: &str, runtime_config: &str) -> AppOptions {
    AppOptions {
        manifest: format!(
            "{TWO}key_value_stores = {labels}\n\
             [component.p2]\nsource = '{{probe-p2}}'\nkey_value_stores = {labels}\n"
        ),
        runtime_config: runtime_config.to_owned(),
        ..AppOptions::default()
    }
}

#[tokio::test]
async fn stores_are_where_the_runtime_configuration_says() {
    let app = App::of(stores(
        "['default', 'file', 'gone']",
        "[key_value_store.file]\ntype = 'spin'\npath = 'stores/file.db'\n\
         [key_value_store.gone]\ntype = 'spin'\n",
    ))
    .await;

    for label in ["default", "file", "gone"] {
        let counted = app.text(&format!("/p3/key-value/{label}")).await;
        assert_eq!(counted, "1", "{label} is a store of its own");
    }
    assert!(app.folder().join("stores/file.db").is_file(), "beside the configuration");
}

#[tokio::test]
async fn a_store_in_redis_does_what_one_in_a_file_does() {
    let databases = Databases::start().await;
    let redis = databases.assign().await.redis_url;
    let config = format!("[key_value_store.default]\ntype = 'redis'\nurl = '{redis}'\n");
    let app = App::of(stores("['default']", &config)).await;

    assert_eq!(
        app.text("/p2/key-value/default").await,
        r#"["a", "b"] None [("b", Some([50])), ("c", None)] true None"#
    );
    assert_eq!(app.text("/p2/atomics/default").await, format!("2 None true {:?}", Some(b"first")));
    // The other component's number is text of one digit, so it counts on from one byte.
    assert_eq!(app.text("/p3/key-value/default").await, "2");
}

#[tokio::test]
async fn a_database_is_where_the_runtime_configuration_says() {
    let folder = system_tests::config::scratch("fidelity-database");
    let file = folder.path().join("books.db");
    let app = App::of(AppOptions {
        manifest: "[[trigger.http]]\nroute = '/...'\ncomponent = 'probe'\n[component.probe]\n\
                   source = '{probe}'\nsqlite_databases = ['default', 'books']\n"
            .to_owned(),
        runtime_config: format!(
            "[sqlite_database.books]\ntype = 'spin'\npath = '{}'\n",
            file.display()
        ),
        ..AppOptions::default()
    })
    .await;

    assert_eq!(app.text("/sqlite/books").await, "7 1");
    assert_eq!(app.text("/sqlite/default").await, "7 1");
    assert!(file.is_file());
}

#[tokio::test]
async fn the_first_provider_that_knows_a_variable_decides_before_what_zlh_sets() {
    let folder = system_tests::config::scratch("fidelity-dotenv");
    let file = folder.path().join(".env");
    std::fs::write(&file, "PROCESS_ONE='of the file'\nPROCESS_TWO='of the file'\n").unwrap();
    let names = ["zero", "one", "two", "three"];
    let declared: String =
        names.iter().map(|name| format!("{name} = {{ default = 'default' }}\n")).collect();
    let granted: String =
        names.iter().map(|name| format!("{name} = '{{{{ {name} }}}}'\n")).collect();
    let app = App::of(AppOptions {
        manifest: format!(
            "[variables]\n{declared}[[trigger.http]]\nroute = '/...'\ncomponent = 'probe'\n\
             [component.probe]\nsource = '{{probe}}'\n[component.probe.variables]\n{granted}"
        ),
        variables: names.map(|name| (name, "set".to_owned())).into(),
        runtime_config: format!(
            "[[variables_provider]]\ntype = 'static'\nvalues = {{ zero = 'static' }}\n\
             [[variables_provider]]\ntype = 'env'\nprefix = 'PROCESS'\ndotenv_path = '{}'\n",
            file.display()
        ),
        ..AppOptions::default()
    })
    .await;

    let mut values = Vec::new();
    for name in names {
        values.push(app.text(&format!("/variable/{name}")).await);
    }

    assert_eq!(values, ["static", "of the process", "of the file", "set"]);
}

#[tokio::test]
async fn a_label_without_a_store_and_a_key_that_is_not_served_stop_the_start() {
    let label = App::refused_of(stores("['default', 'books']", "")).await;
    let key = App::refused_of(stores("['default']", "[llm_compute]\ntype = 'spin'\n")).await;

    assert!(label.contains("[key_value_store.books]"), "{label}");
    assert!(key.contains("`llm_compute`"), "{key}");
}
