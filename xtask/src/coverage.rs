//! Whether the contract tests call every operation of docs/openapi.json and see its documented answers.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::workspace::Workspace;

/// Which tests count, by the name of their program.
const CONTRACT: &str = "contract-";

/// One answer: `GET`, a path or the template of one, and a status.
type Answer = (String, String, String);

/// An empty folder where tests write down their calls.
///
/// # Errors
/// When it cannot be made.
pub(crate) fn folder(workspace: &Workspace) -> anyhow::Result<PathBuf> {
    let folder = workspace.target.join("test-calls");
    if folder.exists() {
        fs::remove_dir_all(&folder)
            .with_context(|| format!("could not remove {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    Ok(folder)
}

/// Compares the calls of the contract tests with the document.
///
/// # Errors
/// With each documented answer that no contract test saw.
pub(crate) fn check(workspace: &Workspace, folder: &Path) -> anyhow::Result<()> {
    let path = workspace.root.join("docs/openapi.json");
    let text =
        fs::read_to_string(&path).with_context(|| format!("could not read {}", path.display()))?;
    let document = serde_json::from_str(&text).context("docs/openapi.json is not JSON")?;

    let missing = missing(&document, &calls(folder)?);
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "no test in tests/contract calls these operations of docs/openapi.json, or sees these answers:\n  {}",
        missing.join("\n  ")
    );
}

/// What the contract tests wrote down.
fn calls(folder: &Path) -> anyhow::Result<BTreeSet<Answer>> {
    let mut calls = BTreeSet::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with(CONTRACT) {
            continue;
        }
        let text = fs::read_to_string(entry.path())?;
        calls.extend(text.lines().filter_map(|line| {
            let mut words = line.split(' ').map(str::to_owned);
            Some((words.next()?, words.next()?, words.next()?))
        }));
    }
    Ok(calls)
}

/// What of the document nobody called or saw, one sentence for each operation.
fn missing(document: &Value, calls: &BTreeSet<Answer>) -> Vec<String> {
    let paths: Vec<&str> = members(&document["paths"]).map(|(path, _)| path).collect();
    let seen: BTreeSet<Answer> = calls
        .iter()
        .filter_map(|(method, path, status)| {
            let path = path.split('?').next()?;
            let template = paths.iter().filter(|template| is_of(path, template)).min_by_key(
                // `/things/new` is not one of `/things/{id}` where both are documented.
                |template| template.matches('{').count(),
            )?;
            Some((method.clone(), (*template).to_owned(), status.clone()))
        })
        .collect();

    let mut missing = Vec::new();
    for (path, item) in members(&document["paths"]) {
        for (method, operation) in members(item) {
            let method = method.to_uppercase();
            let unseen: Vec<&str> = members(&operation["responses"])
                .map(|(status, _)| status)
                .filter(|status| is_wanted(status))
                .filter(|status| {
                    let answer = (method.clone(), path.to_owned(), (*status).to_owned());
                    !seen.contains(&answer)
                })
                .collect();
            let was_called = seen.iter().any(|(by, at, _)| *by == method && at == path);
            match (was_called, unseen.is_empty()) {
                (false, _) => missing.push(format!("{method} {path}: never called")),
                (true, false) => {
                    missing.push(format!("{method} {path}: never {}", unseen.join(", ")));
                }
                (true, true) => {}
            }
        }
    }
    missing
}

/// Every success and every refusal. What is not the client's doing is tested where it can be brought about.
fn is_wanted(status: &str) -> bool {
    status.starts_with(['2', '3', '4'])
}

fn is_of(path: &str, template: &str) -> bool {
    let (path, template): (Vec<_>, Vec<_>) =
        (path.split('/').collect(), template.split('/').collect());
    path.len() == template.len()
        && path
            .iter()
            .zip(template)
            .all(|(part, wanted)| part == &wanted || (wanted.starts_with('{') && !part.is_empty()))
}

fn members(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flatten().map(|(name, value)| (name.as_str(), value))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(calls: &[&str]) -> Vec<String> {
        let operation = |statuses: &[&str]| {
            let responses = statuses.iter().map(|status| ((*status).to_owned(), json!({})));
            json!({ "responses": Value::Object(responses.collect()) })
        };
        let document = json!({ "paths": {
            "/things": { "post": operation(&["201", "400", "503"]) },
            "/things/{id}": { "get": operation(&["200", "404", "default"]), "delete": operation(&["204"]) },
        }});
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("contract-1.2"), calls.join("\n")).unwrap();
        fs::write(folder.path().join("system-1.2"), "DELETE /things/6 204\n").unwrap();
        missing(&document, &super::calls(folder.path()).unwrap())
    }

    #[test]
    fn every_operation_is_called_by_a_contract_test_and_every_refusal_seen() {
        let all = [
            "POST /things 201",
            "POST /things 400",
            "GET /things/1?a=b 200",
            "GET /things/x 404",
            "DELETE /things/1 204",
        ];

        assert_eq!(seen(&all), [""; 0]);
        assert_eq!(seen(&all[1..]), ["POST /things: never 201"]);
        assert_eq!(seen(&all[..4]), ["DELETE /things/{id}: never called"]);
        let elsewhere = ["GET /things/ 200", "GET /things/1/2 404", "PUT /things/1 204"];
        assert_eq!(
            seen(&elsewhere),
            [
                "POST /things: never called",
                "DELETE /things/{id}: never called",
                "GET /things/{id}: never called",
            ]
        );
    }
}
