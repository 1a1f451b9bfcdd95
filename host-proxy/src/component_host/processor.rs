//! Processor time: how long a guest computes, and who else computes meanwhile.
//!
//! A guest that has computed for a whole tick is no longer taken for one that answers soon. From then on it
//! computes only while it holds a permit, one tick at a time. There are fewer permits than threads, so that
//! those which do answer soon find a thread; and a component has a part of them, so that its guests wait
//! for each other before others wait for them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::{Store, UpdateDeadline};

/// Divides the threads of the process among those that compute.
#[derive(Debug)]
pub(crate) struct Processors {
    each: usize,
    all: Arc<Semaphore>,
}

impl Processors {
    /// For a runtime of `threads`.
    pub(crate) fn new(threads: usize) -> Self {
        let all = threads.saturating_sub(1).max(1);
        Self { each: all.div_ceil(2), all: Arc::new(Semaphore::new(all)) }
    }

    /// The part of one component.
    pub(crate) fn share(&self) -> Share {
        Share { own: Arc::new(Semaphore::new(self.each)), all: Arc::clone(&self.all) }
    }
}

/// A component's part of the processors.
#[derive(Debug, Clone)]
pub(crate) struct Share {
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Share {
    /// Waits for a turn; first among the component's own, then among all.
    async fn turn(self) -> Option<Turn> {
        let own = self.own.acquire_owned().await.ok()?;
        let all = self.all.acquire_owned().await.ok()?;
        Some(Turn { _own: own, _all: all })
    }
}

#[derive(Debug)]
struct Turn {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// Measures how long a guest computes without waiting, and makes it take turns.
///
/// A guest that runs when the epoch ends yields to the executor, which looks like waiting from outside.
/// So [`Processor::paused`], called whenever the guest's future is pending, must tell the two apart.
#[derive(Debug)]
pub(crate) struct Processor {
    share: Share,
    /// It yielded, and has not continued yet.
    yielded: AtomicBool,
    /// Nanoseconds computed since the guest last waited.
    used: AtomicU64,
    running: Mutex<Running>,
    exceeded: AtomicBool,
}

/// What a guest that computes for long has.
#[derive(Debug, Default)]
struct Running {
    /// When it last continued after a yield.
    since: Option<Instant>,
    _turn: Option<Turn>,
}

impl Processor {
    pub(crate) fn new(share: Share) -> Self {
        Self {
            share,
            yielded: AtomicBool::new(false),
            used: AtomicU64::new(0),
            running: Mutex::default(),
            exceeded: AtomicBool::new(false),
        }
    }

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
                let turn = processor.share.clone().turn().await;
                processor.yielded.store(false, Ordering::Relaxed);
                processor.set(Running { since: Some(Instant::now()), _turn: turn });
            };
            Ok(UpdateDeadline::YieldCustom(1, Box::pin(pause)))
        });
    }

    /// Notes that the guest's future is pending.
    pub(crate) fn paused(&self) {
        if !self.yielded.load(Ordering::Relaxed) {
            self.used.store(0, Ordering::Relaxed);
            self.set(Running::default());
        }
    }

    /// Gives the turn back, because the guest is gone.
    pub(crate) fn ended(&self) {
        self.set(Running::default());
    }

    /// Whether a guest was trapped for computing too long.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// Ends a tick, and with it the guest's turn. Returns the time computed so far; the part before the
    /// first yield is not seen, it is at most a tick.
    fn tick(&self) -> Duration {
        self.yielded.store(true, Ordering::Relaxed);
        let ended = self.set(Running::default());
        let slice = ended
            .since
            .map_or(0, |since| u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX));
        Duration::from_nanos(self.used.fetch_add(slice, Ordering::Relaxed).saturating_add(slice))
    }

    fn set(&self, running: Running) -> Running {
        let mut current = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, running)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn turn(share: &Share) -> Option<Turn> {
        share.clone().turn().now_or_never().flatten()
    }

    #[test]
    fn those_that_compute_leave_a_thread_and_one_component_leaves_others_a_turn() {
        let processors = Processors::new(4);
        let (greedy, other) = (processors.share(), processors.share());

        let first = [turn(&greedy), turn(&greedy)];
        let third = turn(&greedy);
        let others = turn(&other);
        let fourth = turn(&other);

        assert!(first.iter().all(Option::is_some));
        assert!(third.is_none(), "half of the turns, rounded up, is one component's");
        assert!(others.is_some());
        assert!(fourth.is_none(), "one thread is left");
    }

    #[test]
    fn with_one_processor_there_is_one_turn() {
        let processors = Processors::new(1);
        let (one, other) = (processors.share(), processors.share());

        let held = turn(&one);

        assert!(held.is_some() && turn(&other).is_none());
        drop(held);
        assert!(turn(&other).is_some());
    }
}
