//! What a guest may use, and how it is held to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use std::sync::{Mutex, PoisonError};
use wasmtime::{ResourceLimiter, Result, Store, UpdateDeadline};

/// Limits that apply to every component.
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
    /// Instances alive at once, all components together. Each may grow to `memory_bytes`.
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
            max_instances: 96,
            max_concurrent_requests: 64,
            max_queued_requests: 256,
            reuse_count: 128,
            reuse_concurrency: 16,
            idle_timeout: Duration::from_secs(1),
        }
    }
}

/// Bounds the memory of one instance. Its dependencies have memories of their own, hence the sum.
pub(crate) struct MemoryLimit {
    remaining: usize,
}

impl MemoryLimit {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { remaining: bytes }
    }
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
        match self.remaining.checked_sub(desired.saturating_sub(current)) {
            Some(remaining) => {
                self.remaining = remaining;
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

/// Measures how long a guest computes without waiting.
///
/// A guest that runs when the epoch ends yields to the executor, which looks like waiting from outside.
/// So [`Processor::paused`], called whenever the guest's future is pending, must tell the two apart.
#[derive(Debug, Default)]
pub(crate) struct Processor {
    yielded: AtomicBool,
    /// Nanoseconds computed since the guest last waited.
    used: AtomicU64,
    /// When it last continued after a yield.
    resumed: Mutex<Option<Instant>>,
    exceeded: AtomicBool,
}

impl Processor {
    /// Makes guests of `store` yield every tick, and trap after `deadline` of computing.
    pub(crate) fn watch<T>(self: &Arc<Self>, store: &mut Store<T>, deadline: Duration) {
        let processor = Arc::clone(self);
        store.set_epoch_deadline(1);
        store.epoch_deadline_callback(move |_| {
            if processor.tick() > deadline {
                processor.exceeded.store(true, Ordering::Relaxed);
                return Ok(UpdateDeadline::Interrupt);
            }
            let processor = Arc::clone(&processor);
            let pause = async move {
                tokio::task::yield_now().await;
                processor.set_resumed(Some(Instant::now()));
            };
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(pause)))
        });
    }

    /// Notes that the guest's future is pending.
    pub(crate) fn paused(&self) {
        if !self.yielded.swap(false, Ordering::Relaxed) {
            self.used.store(0, Ordering::Relaxed);
            self.set_resumed(None);
        }
    }

    /// Whether a guest was trapped for computing too long.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// Time computed so far. The part before the first yield is not seen; it is at most a tick.
    fn tick(&self) -> Duration {
        self.yielded.store(true, Ordering::Relaxed);
        let resumed = *self.resumed.lock().unwrap_or_else(PoisonError::into_inner);
        let slice = resumed
            .map_or(0, |resumed| u64::try_from(resumed.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Duration::from_nanos(self.used.fetch_add(slice, Ordering::Relaxed).saturating_add(slice))
    }

    fn set_resumed(&self, at: Option<Instant>) {
        *self.resumed.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_of_one_instance_share_its_limit() {
        let mut limit = MemoryLimit::new(100);

        assert!(limit.memory_growing(0, 60, None).unwrap());
        assert!(!limit.memory_growing(0, 60, None).unwrap());
        assert!(limit.memory_growing(60, 100, None).unwrap());
        assert!(!limit.memory_growing(0, 1, None).unwrap());
    }
}
