//! `zlh doctor`: says of each thing that `zlh up` needs whether it is right, and if not, what to do.
//!
//! Components are loaded in a folder that is removed afterwards, with keys and stores made for the purpose.

use futures::FutureExt as _;
use futures::future::BoxFuture;
use serde::Serialize;

use crate::config::{Config, ConfigError};

mod artifacts;
mod components;
mod database;
mod folder;
mod listeners;
mod machine;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// It is as it should be.
    Ok {
        /// What it is.
        text: String,
    },
    /// It works, and may not be meant so.
    Warn {
        /// What it is.
        text: String,
    },
    /// `zlh` would not work.
    Wrong {
        /// What it is.
        text: String,
        /// What to do.
        remedy: String,
    },
}

impl Verdict {
    fn ok(text: impl Into<String>) -> Self {
        Self::Ok { text: text.into() }
    }

    fn warn(text: impl Into<String>) -> Self {
        Self::Warn { text: text.into() }
    }

    fn wrong(text: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Wrong { text: text.into(), remedy: remedy.into() }
    }
}

/// One line of the report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// What was found.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// Everything that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Nothing is wrong.
    pub ok: bool,
    /// In the order in which they were looked at.
    pub checks: Vec<Finding>,
}

impl Report {
    fn new(checks: Vec<Finding>) -> Self {
        let wrong = |finding: &Finding| matches!(finding.verdict, Verdict::Wrong { .. });
        Self { ok: !checks.iter().any(wrong), checks }
    }

    /// For people: a line for each check, and below what is wrong the remedy.
    #[must_use]
    pub fn table(&self) -> String {
        let lines = self.checks.iter().map(|Finding { check, verdict }| match verdict {
            Verdict::Ok { text } => format!("ok     {check:<22} {text}"),
            Verdict::Warn { text } => format!("warn   {check:<22} {text}"),
            Verdict::Wrong { text, remedy } => {
                format!("WRONG  {check:<22} {text}\n       {:<22} -> {remedy}", "")
            }
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Looks at everything that `zlh up` with these settings would need.
pub async fn examine(config: Result<Config, ConfigError>) -> Report {
    let config = match config {
        Ok(config) => config,
        Err(error) => {
            let verdict = Verdict::wrong(error.to_string(), "correct it; nothing else was checked");
            return Report::new(vec![Finding { check: "settings", verdict }]);
        }
    };
    let mut found = Vec::new();
    for (check, verdict) in checks(&config) {
        found.push(Finding { check, verdict: verdict.await });
    }
    Report::new(found)
}

/// The checks, in the order in which a start would meet what they find.
fn checks(config: &Config) -> Vec<(&'static str, BoxFuture<'_, Verdict>)> {
    let mut checks = vec![
        ("data folder", folder::data_dir(config).boxed()),
        ("lock", folder::lock(config).boxed()),
        ("secrets", folder::secrets(config).boxed()),
        ("disk", machine::disk(config).boxed()),
        ("memory", machine::memory().boxed()),
        ("open files", machine::open_files(config).boxed()),
    ];
    for (flag, address) in listeners::of(config) {
        checks.push((flag, listeners::listener(config, flag, address).boxed()));
    }
    checks.extend([
        ("runtime configuration", components::runtime_config(config).boxed()),
        ("allow-list", components::allow_list(config).boxed()),
        ("components", components::load(config).boxed()),
        ("database", database::database(config).boxed()),
        ("clock", database::clock(config).boxed()),
        ("redis", database::redis(config).boxed()),
        ("artifacts", artifacts::store(config).boxed()),
        ("agent", artifacts::agent(config).boxed()),
    ]);
    checks
}

/// An error with everything that led to it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[cfg(test)]
mod tests;
