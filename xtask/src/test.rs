//! `cargo xtask test`: everything that is built, then every kind of test.

use std::time::Instant;

use crate::shell::{self, phase};
use crate::workspace::Workspace;
use crate::{artifacts, build, check, coverage, setup};

/// Without a filter, what CI runs: the checks, and all tests. With one, only the tests whose name
/// contains it.
///
/// # Errors
/// With the first step that fails.
pub(crate) fn run(workspace: &Workspace, filter: Option<&str>) -> anyhow::Result<()> {
    let mut steps = Steps::default();
    steps.run("tools", || {
        setup::wasm_target()?;
        setup::artifact_tools()?;
        setup::test_tools()?;
        setup::schemathesis(workspace)
    })?;
    if filter.is_none() {
        steps.run("checks", || check::run(workspace))?;
    }
    steps.run("components", || {
        build::components(workspace)?;
        build::test_components(workspace)
    })?;
    steps.run("artifacts", || artifacts::make(workspace, false))?;
    steps.run("programs and tests, compiled", || {
        phase("Building zlh, zlh-agent and the tests (the first time, this compiles wasmtime: some minutes)");
        // In one go, so that every dependency is compiled with one set of features, once.
        let build = ["build", "--workspace", "--all-targets"];
        shell::run(shell::cargo().args(build).current_dir(&workspace.root))
    })?;
    let calls = coverage::folder(workspace)?;
    steps.run("tests", || {
        phase("Running the tests");
        let mut cargo = shell::cargo();
        cargo.args(["test", "--workspace", "--all-targets", "--no-fail-fast"]);
        cargo.args(filter).current_dir(&workspace.root);
        cargo.env("ZLH_TEST_PROGRAMS", workspace.target.join("debug"));
        cargo.env("ZLH_TEST_CALLS", &calls);
        shell::run(&mut cargo)?;
        // With a filter, most operations are not called.
        if filter.is_none() { coverage::check(workspace, &calls) } else { Ok(()) }
    })?;
    steps.run("tests on PostgreSQL and Redis", || {
        phase("Running the contract and system tests on PostgreSQL and Redis");
        let mut cargo = shell::cargo();
        cargo.args(["test", "--workspace", "--test", "contract", "--test", "system"]);
        cargo.arg("--no-fail-fast").args(filter).current_dir(&workspace.root);
        cargo.env("ZLH_TEST_PROGRAMS", workspace.target.join("debug"));
        cargo.env("ZLH_TEST_DATABASE", "postgres");
        shell::run(&mut cargo)
    })?;
    steps.run("examples in the documentation", || {
        phase("Running the examples in the documentation");
        let mut cargo = shell::cargo();
        shell::run(
            cargo.args(["test", "--workspace", "--doc"]).args(filter).current_dir(&workspace.root),
        )
    })?;
    steps.report();
    Ok(())
}

/// What was done and how long it took.
#[derive(Default)]
struct Steps(Vec<(&'static str, u64)>);

impl Steps {
    fn run(
        &mut self,
        name: &'static str,
        step: impl FnOnce() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let started = Instant::now();
        let outcome = step();
        self.0.push((name, started.elapsed().as_secs()));
        if outcome.is_err() {
            self.report();
        }
        outcome
    }

    fn report(&self) {
        phase("Time taken");
        for (name, seconds) in &self.0 {
            shell::note(&format!("{:>4} s  {name}", seconds));
        }
        shell::note(&format!(
            "{:>4} s  in all",
            self.0.iter().map(|(_, seconds)| seconds).sum::<u64>()
        ));
    }
}
