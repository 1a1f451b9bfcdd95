//! The instances of one component: how each is made, which requests it takes, and when it ends.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant as StdInstant};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;
use wasmtime::component::GuestTaskId;
use wasmtime::{Engine, Result, Store, StoreContextMut, format_err};
use wasmtime_wasi_http::WasiHttpView;
use wasmtime_wasi_http::handler::{
    HandlerState, Instance, ProxyPre, ShouldAccept, WorkerExpiration, WorkerState, WorkerStatus,
};

use super::Exchange;
use crate::component_host::engine::{Alive, Ticker};
use crate::component_host::limits::{Limits, MemoryLimit};
use crate::component_host::linker::{Grants, Guest};
use crate::component_host::metrics::{Counters, InstanceCount};
use crate::component_host::processor::{Processor, Share};
use crate::component_host::slots::Slots;

/// How long an instance outlives the deadline of its last request before it is taken for stuck.
const STUCK_GRACE: Duration = Duration::from_secs(1);

/// Makes instances of one component.
pub(crate) struct Instances {
    pub(crate) component: Arc<str>,
    pub(crate) engine: Engine,
    pub(crate) pre: ProxyPre<Guest>,
    pub(crate) grants: Grants,
    pub(crate) counters: Counters,
    pub(crate) limits: Arc<Limits>,
    pub(crate) slots: Slots,
    pub(crate) processors: Share,
    pub(crate) ticker: Arc<Ticker>,
    pub(crate) workers: TaskTracker,
    /// The workers of this component's present file.
    pub(crate) drained: TaskTracker,
    /// Ends every instance.
    pub(crate) stop: CancellationToken,
}

/// What becomes of one instance; shared with the requests that it takes.
#[derive(Debug)]
pub(crate) struct Fate {
    pub(crate) processor: Arc<Processor>,
    failed: AtomicBool,
    /// Set when it did not answer a request in time: it takes no more, and ends with its streams then.
    retire_at: Mutex<Option<Instant>>,
}

impl Fate {
    fn new(share: Share) -> Self {
        Self {
            processor: Arc::new(Processor::new(share)),
            failed: AtomicBool::new(false),
            retire_at: Mutex::new(None),
        }
    }

    pub(crate) fn failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    fn retire(&self, at: Instant) {
        self.retire_at.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(at);
    }

    fn retires_at(&self) -> Option<Instant> {
        *self.retire_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HandlerState for Instances {
    type StoreData = Guest;
    type WorkerExpiration = Expiration;
    type WorkerState = Worker;

    async fn instantiate(&self) -> Result<Instance<Guest, Expiration, Worker>> {
        let slot = timeout(self.limits.request_timeout, self.slots.acquire())
            .await
            .map_err(|_| format_err!("no instance became free in time"))??;
        let fate = Arc::new(Fate::new(self.processors.clone()));
        // Held from here on: instantiation runs guest code too.
        let alive = self.ticker.hold();

        let memory = MemoryLimit::new(self.limits.memory_bytes, self.counters.memory());
        let guest = Guest::new(self.grants.clone(), memory, &self.limits)?;
        let mut store = Store::new(&self.engine, guest);
        store.limiter(|guest| &mut guest.memory);
        fate.processor.watch(&mut store, self.limits.cpu_deadline);
        let proxy = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance {
            store,
            proxy,
            view: WasiHttpView::http,
            expiration: Expiration {
                fate: Arc::clone(&fate),
                limits: Arc::clone(&self.limits),
                stop: Box::pin(self.stop.clone().cancelled_owned()),
                timer: Box::pin(sleep_until(Instant::now() + self.limits.idle_timeout)),
            },
            state: Worker {
                component: Arc::clone(&self.component),
                fate,
                limits: Arc::clone(&self.limits),
                single_use: matches!(self.pre, ProxyPre::P2(_)),
                _alive: alive,
                _slot: slot,
                _counted: self.counters.instance(),
                _tracked: [self.workers.token(), self.drained.token()],
            },
        })
    }
}

/// Decides which requests an instance takes.
pub(crate) struct Worker {
    component: Arc<str>,
    fate: Arc<Fate>,
    limits: Arc<Limits>,
    /// A guest of WASI 0.2 serves one request, as on Spin.
    single_use: bool,
    _alive: Alive,
    _slot: OwnedSemaphorePermit,
    _counted: InstanceCount,
    _tracked: [TaskTrackerToken; 2],
}

impl WorkerState for Worker {
    type StoreData = Guest;
    type RequestData = Arc<Exchange>;

    fn should_accept_request(&self, concurrent: usize, total: usize) -> ShouldAccept {
        let reuse_count = if self.single_use { 1 } else { self.limits.reuse_count };
        if total >= reuse_count || self.fate.retires_at().is_some() {
            ShouldAccept::Never
        } else if concurrent >= self.limits.reuse_concurrency {
            ShouldAccept::No
        } else {
            ShouldAccept::Yes
        }
    }

    fn on_request_start(
        &self,
        _store: StoreContextMut<'_, Guest>,
        exchange: Arc<Exchange>,
        _task: GuestTaskId,
    ) -> Pin<Box<dyn Future<Output = ()> + Send + Sync>> {
        let fate = Arc::clone(exchange.fate.get_or_init(|| Arc::clone(&self.fate)));
        let grace = self.limits.request_timeout;
        // Keeps the exchange, and so its place among the running, until the guest has answered.
        Box::pin(async move {
            sleep_until(exchange.deadline).await;
            fate.retire(exchange.deadline + grace);
        })
    }

    fn drop(&self, store: Store<Guest>, result: Result<()>) {
        if let Err(error) = result {
            // Before the store goes: the end of its streams must find this set.
            self.fate.failed.store(true, Ordering::Release);
            tracing::error!(
                component.id = %self.component,
                error = %error.root_cause(),
                "an instance failed, and with it the requests it was serving"
            );
            tracing::debug!("{error:?}");
        }
        drop(store);
        self.fate.processor.ended();
    }
}

/// Decides when an instance ends.
pub(crate) struct Expiration {
    fate: Arc<Fate>,
    limits: Arc<Limits>,
    stop: Pin<Box<WaitForCancellationFutureOwned>>,
    timer: Pin<Box<Sleep>>,
}

impl WorkerExpiration for Expiration {
    /// Called whenever the instance is pending.
    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        status: WorkerStatus,
        since: StdInstant,
    ) -> Poll<()> {
        self.fate.processor.paused();
        if self.stop.as_mut().poll(context).is_ready() {
            return Poll::Ready(());
        }
        let since = Instant::from_std(since);
        let deadline = match status {
            WorkerStatus::Idle => Some(since + self.limits.idle_timeout),
            WorkerStatus::Requests => Some(since + self.limits.request_timeout + STUCK_GRACE),
            // It streams a response, or finishes what it started: for as long as that takes.
            WorkerStatus::PostReturn => None,
        };
        let Some(deadline) = deadline.into_iter().chain(self.fate.retires_at()).min() else {
            return Poll::Pending;
        };
        if self.timer.deadline() != deadline {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(context)
    }
}
