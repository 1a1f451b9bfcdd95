//! The process's surroundings: read here and nowhere else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;

use super::source::{ConfigError, Flags, Source};

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

/// How the log is written, which is needed before anything else can be said.
#[derive(Debug)]
pub struct LogSettings {
    /// `ZLH_LOG`: a filter such as `info` or `zlh_host_proxy=debug`; default `info`.
    pub filter: EnvFilter,
    /// `ZLH_LOG_FORMAT`: `text`, or `json` for machines; default `text`.
    pub json: bool,
}

/// Where traces are sent to.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` or `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` is set; default neither, and
    /// nothing is traced. The exporter reads them and its other settings itself.
    pub enabled: bool,
    /// `OTEL_SERVICE_NAME`: who they are from; default `zlh`.
    pub service: String,
}

impl TraceSettings {
    /// Reads both.
    #[must_use]
    pub fn from_environment() -> Self {
        let set = |name: &str| variable(name).is_some_and(|value| !value.is_empty());
        Self {
            enabled: set("OTEL_EXPORTER_OTLP_ENDPOINT")
                || set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"),
            service: variable("OTEL_SERVICE_NAME").unwrap_or_else(|| "zlh".to_owned()),
        }
    }
}

impl LogSettings {
    /// Reads both.
    ///
    /// # Errors
    ///
    /// The one that is wrong, by name.
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::from_vars(variable)
    }

    pub(super) fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let source = Source { flags: &Flags::default(), var: &var };
        let filter = source.parse(
            "ZLH_LOG",
            "info".to_owned(),
            "a filter such as `info` or `info,zlh_host_proxy=debug`",
            |text| EnvFilter::try_new(text).is_ok().then(|| text.to_owned()),
        )?;
        let json =
            source.parse("ZLH_LOG_FORMAT", false, "`text` or `json`", |text| match text {
                "text" => Some(false),
                "json" => Some(true),
                _ => None,
            })?;
        Ok(Self { filter: EnvFilter::new(filter), json })
    }
}

/// One variable of this process.
#[expect(clippy::disallowed_methods, reason = "the look-up that everybody else is given")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
