//! The process's surroundings: read here and nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is in the environment beyond single settings.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `SPIN_VARIABLE_*`, by the component variable's own name.
    pub variables: BTreeMap<String, String>,
    /// Folder of the running program.
    pub program_folder: PathBuf,
}

/// The environment of this process, and a look-up in it.
pub fn process_environment() -> (Environment, impl Fn(&str) -> Option<String>) {
    let variables = std::env::vars_os()
        .filter_map(|(name, value)| {
            let name = name.to_str()?.strip_prefix("SPIN_VARIABLE_")?.to_ascii_lowercase();
            Some((name, value.into_string().ok()?))
        })
        .collect();
    let program_folder = std::env::current_exe()
        .ok()
        .and_then(|program| program.parent().map(PathBuf::from))
        .unwrap_or_default();
    (Environment { variables, program_folder }, variable)
}

/// `ZLH_LOG`, a filter such as `info` or `zlh=debug` (default `info`), and whether `ZLH_LOG_FORMAT` is `json`.
#[must_use]
pub fn log_settings() -> (String, bool) {
    let filter = variable("ZLH_LOG").unwrap_or_else(|| "info".to_owned());
    (filter, variable("ZLH_LOG_FORMAT").as_deref() == Some("json"))
}

#[expect(clippy::disallowed_methods, reason = "the look-up that `Config::from_vars` is given")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
