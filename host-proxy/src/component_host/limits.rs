//! What a guest may use, and how its memory is held to it.

use std::time::Duration;

use prometheus_client::metrics::gauge::Gauge;
use wasmtime::{ResourceLimiter, Result};

/// Limits of components. A stanza may have its own for most of them (`tool.zlh`, decision 0010).
#[derive(Debug, Clone)]
pub struct Limits {
    /// Linear memory of one instance with its dependencies, in bytes. 128 MiB is what hosted Spin
    /// allows, so a component that fits here fits there.
    pub memory_bytes: usize,
    /// Wall clock from a request's arrival to the head of its response, its wait in the queue included.
    /// 30 s is what hosted Spin allows. A body may stream for longer.
    pub request_timeout: Duration,
    /// How often a running guest lets others run. 10 ms is Spin's tick.
    pub epoch_tick: Duration,
    /// Time that a guest may compute without waiting for anything; then it is trapped. 5 s is far beyond
    /// any honest handler and short enough to free a processor.
    pub cpu_deadline: Duration,
    /// Size of a request's body, in bytes. 10 MiB is what hosted Spin allows; larger uploads do not pass
    /// through components.
    pub max_request_body_bytes: u64,
    /// Size of a response's body, in bytes. It only stops a runaway guest, since bodies are streamed.
    pub max_response_body_bytes: u64,
    /// Headers of a request, and of a response. Listeners read 100, and routing adds some.
    pub max_headers: usize,
    /// Names and values of the headers of a request, and of a response, in bytes. 64 KiB is what the
    /// listeners read of a request.
    pub max_header_bytes: usize,
    /// Instances alive at once, all components together. Each may grow to `memory_bytes`. Half of them is
    /// divided evenly among the components, the rest is for whoever comes first.
    pub max_instances: u32,
    /// Requests of one component that run at once, bodies included.
    pub max_concurrent_requests: usize,
    /// Requests of one component that wait for one of those to end; more are answered 503.
    pub max_queued_requests: usize,
    /// Requests that one instance serves in its life; 128 as in Spin.
    pub reuse_count: usize,
    /// Requests that one instance serves at once; 16 as in Spin.
    pub reuse_concurrency: usize,
    /// How long an instance waits for its next request; 1 s as in Spin.
    pub idle_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 128 << 20,
            request_timeout: Duration::from_secs(30),
            epoch_tick: Duration::from_millis(10),
            cpu_deadline: Duration::from_secs(5),
            max_request_body_bytes: 10 << 20,
            max_response_body_bytes: 64 << 20,
            max_headers: 128,
            max_header_bytes: 64 << 10,
            max_instances: 96,
            max_concurrent_requests: 64,
            max_queued_requests: 256,
            reuse_count: 128,
            reuse_concurrency: 16,
            idle_timeout: Duration::from_secs(1),
        }
    }
}

/// What a stanza says in `tool.zlh`; `None` keeps what holds for all. The names and units are those of
/// [`Limits`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ComponentLimits {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) request_timeout_ms: Option<u64>,
    pub(crate) cpu_deadline_ms: Option<u64>,
    pub(crate) max_request_body_bytes: Option<u64>,
    pub(crate) max_response_body_bytes: Option<u64>,
    pub(crate) max_headers: Option<u64>,
    pub(crate) max_header_bytes: Option<u64>,
    pub(crate) max_concurrent_requests: Option<u64>,
    pub(crate) max_queued_requests: Option<u64>,
    pub(crate) reuse_count: Option<u64>,
    pub(crate) reuse_concurrency: Option<u64>,
}

impl Limits {
    /// These limits as one component has them.
    pub(crate) fn of(&self, component: &ComponentLimits) -> Self {
        let count = |own: Option<u64>, all: usize| {
            own.map_or(all, |own| usize::try_from(own).unwrap_or(usize::MAX).min(MAX_COUNT))
        };
        let time = |own: Option<u64>, all| own.map_or(all, Duration::from_millis);
        let c = component;
        Self {
            memory_bytes: count(c.memory_bytes, self.memory_bytes),
            request_timeout: time(c.request_timeout_ms, self.request_timeout),
            cpu_deadline: time(c.cpu_deadline_ms, self.cpu_deadline),
            max_request_body_bytes: c.max_request_body_bytes.unwrap_or(self.max_request_body_bytes),
            max_response_body_bytes: c
                .max_response_body_bytes
                .unwrap_or(self.max_response_body_bytes),
            max_headers: count(c.max_headers, self.max_headers),
            max_header_bytes: count(c.max_header_bytes, self.max_header_bytes),
            max_concurrent_requests: count(c.max_concurrent_requests, self.max_concurrent_requests),
            max_queued_requests: count(c.max_queued_requests, self.max_queued_requests),
            reuse_count: count(c.reuse_count, self.reuse_count),
            reuse_concurrency: count(c.reuse_concurrency, self.reuse_concurrency),
            ..self.clone()
        }
    }
}

/// What a semaphore can count, and more than any of these limits needs to be. It is also the size of the
/// largest memory.
const MAX_COUNT: usize = 1 << 32;

/// Bounds the memory of one instance. Its dependencies have memories of their own, hence the sum.
pub(crate) struct MemoryLimit {
    remaining: usize,
    used: usize,
    /// What all instances of a component use.
    gauge: Gauge,
}

impl MemoryLimit {
    pub(crate) fn new(bytes: usize, gauge: Gauge) -> Self {
        Self { remaining: bytes, used: 0, gauge }
    }
}

impl Drop for MemoryLimit {
    fn drop(&mut self) {
        self.gauge.dec_by(gauge_value(self.used));
    }
}

fn gauge_value(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Entries that all tables of an instance may have; a compiler emits one table of functions.
const MAX_TABLE_ENTRIES: usize = 100_000;

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool> {
        let more = desired.saturating_sub(current);
        match self.remaining.checked_sub(more) {
            Some(remaining) => {
                self.remaining = remaining;
                self.used += more;
                self.gauge.inc_by(gauge_value(more));
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn table_growing(
        &mut self,
        _current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> Result<bool> {
        Ok(desired <= MAX_TABLE_ENTRIES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_has_its_own_limits_and_else_those_of_all() {
        let all = Limits::default();
        let own = ComponentLimits {
            cpu_deadline_ms: Some(20),
            max_queued_requests: Some(u64::MAX),
            ..ComponentLimits::default()
        };

        let limits = all.of(&own);

        assert_eq!(limits.cpu_deadline, Duration::from_millis(20));
        assert_eq!(limits.max_queued_requests, MAX_COUNT);
        assert_eq!(limits.memory_bytes, all.memory_bytes);
    }

    #[test]
    fn memories_of_one_instance_share_its_limit() {
        let gauge = Gauge::default();
        let mut limit = MemoryLimit::new(100, gauge.clone());

        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(!limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.memory_growing(60, 100, None).unwrap());
        assert!(!limit.memory_growing(0, 1, None).unwrap());
        assert_eq!(gauge.get(), 100);
        drop(limit);
        assert_eq!(gauge.get(), 0);
    }
}
