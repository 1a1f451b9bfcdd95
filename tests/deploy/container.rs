//! The image's recipe: what it copies is built, and what it runs is there.

use std::process::Command;

use system_tests::config;

use crate::text;

const BUILT: &str = "/src/";

/// Instructions of the recipe, continued lines joined.
fn instructions() -> Vec<String> {
    let text = text("container/Containerfile").replace("\\\n", " ");
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn everything_that_is_copied_is_built() {
    let manifest = std::fs::read_to_string(config::manifest()).unwrap();
    let manifest: toml::Table = toml::from_str(&manifest).unwrap();
    let mut copied = Vec::new();
    for line in instructions().iter().filter(|line| line.starts_with("COPY --from=builder")) {
        let words: Vec<&str> = line.split_whitespace().skip(2).collect();
        let (to, sources) = words.split_last().unwrap();
        for source in sources {
            let source = source.strip_prefix(BUILT).expect("a path of the builder");
            copied.push((source.to_owned(), (*to).to_owned()));
        }
    }

    for (source, _) in &copied {
        // Tests run on debug builds, and cargo may build elsewhere.
        let path = match source.strip_prefix("target/release/") {
            Some(program) => config::programs().join(program),
            None => config::root().join(source.replace("*.wasm", "auth.wasm")),
        };
        assert!(path.is_file(), "{}", path.display());
    }
    // The manifest lies where its sources start.
    assert!(copied.contains(&("spin.toml".to_owned(), "./".to_owned())), "{copied:?}");
    for (id, component) in manifest["component"].as_table().unwrap() {
        let (folder, _) = component["source"].as_str().unwrap().rsplit_once('/').unwrap();
        let copy = (format!("{folder}/*.wasm"), format!("{folder}/"));
        assert!(copied.contains(&copy), "{id}: {copied:?}");
    }
}

#[test]
fn everything_that_is_run_is_there() {
    let lines = instructions();
    let has = |wanted: &str| lines.iter().any(|line| line.contains(wanted));
    let help = |program: &str, arguments: &[&str]| {
        let program = config::programs().join(program);
        let output = Command::new(&program).args(arguments).arg("--help").output().unwrap();
        assert!(output.status.success(), "{} {arguments:?}", program.display());
        String::from_utf8_lossy(&output.stdout).into_owned()
    };

    assert!(has("RUN cargo xtask build --release"));
    assert!(help("xtask", &["build"]).contains("--release"));
    assert!(has(r#"ENTRYPOINT ["/opt/zlh/zlh"]"#) && has(r#"CMD ["up"]"#));
    // The healthcheck asks the private listener, where it is by default.
    let up = help("zlh", &["up"]);
    assert!(up.contains("ZLH_ADMIN_LISTEN; default 127.0.0.1:8082"), "{up}");
    assert!(has("http://127.0.0.1:8082/livez"));
    // Of the last stage: curl for it, git for the customers.
    let installed = lines.iter().rfind(|line| line.contains("apt-get install")).unwrap();
    assert!(installed.contains(" curl ") && installed.contains(" git "), "{installed}");
}
