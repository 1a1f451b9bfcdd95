//! `[component.<id>.tool.zlh]`: limits of one component. Spin leaves `tool` tables to others.

use serde::Deserialize;
use toml::{Table, Value};

use super::{Result, table};
use crate::component_host::limits::ComponentLimits;
use crate::component_host::manifest::ManifestError;

/// Name of this host among the tools.
pub(super) const NAME: &str = "zlh";

/// See [`ComponentLimits`].
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    memory_bytes: Option<u64>,
    request_timeout_ms: Option<u64>,
    cpu_deadline_ms: Option<u64>,
    max_request_body_bytes: Option<u64>,
    max_response_body_bytes: Option<u64>,
    max_headers: Option<u64>,
    max_header_bytes: Option<u64>,
    max_concurrent_requests: Option<u64>,
    max_queued_requests: Option<u64>,
    reuse_count: Option<u64>,
    reuse_concurrency: Option<u64>,
}

pub(super) fn limits(component: &str, tool: Option<Table>) -> Result<ComponentLimits> {
    let key = format!("{component}.tool.{NAME}");
    let raw: RawLimits = table(&key, Value::Table(tool.unwrap_or_default()))?;
    let count = |name: &str, value: Option<u64>| positive(&key, name, value);
    Ok(ComponentLimits {
        memory_bytes: count("memory_bytes", raw.memory_bytes)?,
        request_timeout_ms: count("request_timeout_ms", raw.request_timeout_ms)?,
        cpu_deadline_ms: count("cpu_deadline_ms", raw.cpu_deadline_ms)?,
        max_request_body_bytes: raw.max_request_body_bytes,
        max_response_body_bytes: raw.max_response_body_bytes,
        max_headers: count("max_headers", raw.max_headers)?,
        max_header_bytes: count("max_header_bytes", raw.max_header_bytes)?,
        max_concurrent_requests: count("max_concurrent_requests", raw.max_concurrent_requests)?,
        max_queued_requests: raw.max_queued_requests,
        reuse_count: count("reuse_count", raw.reuse_count)?,
        reuse_concurrency: count("reuse_concurrency", raw.reuse_concurrency)?,
    })
}

/// Without any of these a component could not serve at all.
fn positive(key: &str, name: &str, value: Option<u64>) -> Result<Option<u64>> {
    match value {
        Some(0) => Err(ManifestError::invalid(format!("{key}.{name}"), "must be more than 0")),
        other => Ok(other),
    }
}
