//! The wasmtime engine, and the clock that makes its guests yield.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Result};

use super::limits::Limits;

/// A composed component has several: its own, its adapters' and its dependencies'.
const CORE_INSTANCES_PER_COMPONENT: u32 = 24;
/// One for the component, one for each dependency.
const MEMORIES_PER_COMPONENT: u32 = 4;
const TABLES_PER_COMPONENT: u32 = 12;
/// Calls of guests, each on a stack of its own, that an instance may have suspended on average.
const STACKS_PER_INSTANCE: u32 = 4;
/// Memory that a slot keeps when its instance is gone: clearing it is cheaper than mapping it again.
/// It is paid once per slot ever used, so it bounds the memory of an idle process.
const KEEP_RESIDENT_BYTES: usize = 512 << 10;
/// Slots that stay prepared for one component while another needs slots.
const WARM_SLOTS: u32 = 16;

/// Creates the engine.
///
/// The pooling allocator reserves address space for all instances at once. Where that is not to be had
/// (a container with a limit on it), instances are allocated one by one, more slowly.
///
/// `memory_bytes` is the largest memory that an instance may have.
pub(crate) fn create(limits: &Limits, memory_bytes: usize) -> Result<Engine> {
    Engine::new(config().allocation_strategy(pool(limits, memory_bytes))).or_else(|error| {
        tracing::warn!(
            error = %error,
            "no address space for the instance pool; instances are allocated one by one"
        );
        Engine::new(&config())
    })
}

fn config() -> Config {
    let mut config = Config::new();
    config.wasm_component_model(true);
    config.wasm_component_model_async(true);
    config.epoch_interruption(true);
    config
}

fn pool(limits: &Limits, memory_bytes: usize) -> InstanceAllocationStrategy {
    let instances = limits.max_instances;
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(CORE_INSTANCES_PER_COMPONENT))
        .total_memories(instances.saturating_mul(MEMORIES_PER_COMPONENT))
        .total_tables(instances.saturating_mul(TABLES_PER_COMPONENT))
        .total_stacks(instances.saturating_mul(STACKS_PER_INSTANCE))
        .max_core_instances_per_component(CORE_INSTANCES_PER_COMPONENT)
        .max_memories_per_component(MEMORIES_PER_COMPONENT)
        .max_tables_per_component(TABLES_PER_COMPONENT)
        .max_memory_size(memory_bytes)
        .max_unused_warm_slots(WARM_SLOTS)
        .linear_memory_keep_resident(KEEP_RESIDENT_BYTES)
        .table_keep_resident(KEEP_RESIDENT_BYTES / 8);
    InstanceAllocationStrategy::Pooling(pool)
}

/// Advances the epoch while instances are alive.
///
/// A thread of its own, because guests that compute can occupy every thread of the runtime.
#[derive(Debug)]
pub(crate) struct Ticker {
    thread: thread::Thread,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    alive: AtomicUsize,
    stopped: AtomicBool,
}

impl Ticker {
    pub(crate) fn start(engine: &Engine, tick: Duration) -> std::io::Result<Self> {
        let engine = engine.clone();
        let shared = Arc::<Shared>::default();
        let seen = Arc::clone(&shared);
        let thread = thread::Builder::new().name("epoch".into()).spawn(move || {
            while !seen.stopped.load(Ordering::Acquire) {
                if seen.alive.load(Ordering::Acquire) == 0 {
                    thread::park();
                } else {
                    thread::park_timeout(tick);
                    engine.increment_epoch();
                }
            }
        })?;
        Ok(Self { thread: thread.thread().clone(), shared })
    }

    /// Keeps the epoch advancing until the guard is dropped.
    pub(crate) fn hold(self: &Arc<Self>) -> Alive {
        if self.shared.alive.fetch_add(1, Ordering::AcqRel) == 0 {
            self.thread.unpark();
        }
        Alive(Arc::clone(self))
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

/// See [`Ticker::hold`].
#[derive(Debug)]
pub(crate) struct Alive(Arc<Ticker>);

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.shared.alive.fetch_sub(1, Ordering::AcqRel);
    }
}
