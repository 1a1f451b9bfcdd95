//! Every open stream with what it hangs on, so that it can be closed when that ends.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tokio_util::task::TaskTracker;
use zlh_agent_protocol::internal::IdeGrant;
use zlh_ids::Vmid;

/// How long a stream may take to say goodbye: a client that is there needs a round trip.
const GOODBYE: Duration = Duration::from_secs(1);

/// Why a stream is closed from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closing {
    /// What it hangs on has ended.
    Revoked,
    /// This process ends; another goes on, or will.
    Restart,
}

impl Closing {
    /// The status code of a WebSocket's close frame: 1008, Policy Violation (RFC 6455 section 7.4.1), or 1012,
    /// Service Restart (IANA's registry of WebSocket close codes), after which clients come again.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::Revoked => 1008,
            Self::Restart => 1012,
        }
    }
}

/// Every open stream.
pub struct Registry {
    streams: Mutex<Streams>,
    per_container: usize,
    tasks: TaskTracker,
    /// Every stream is closed for good.
    ended: CancellationToken,
}

#[derive(Default)]
struct Streams {
    next: u64,
    open: HashMap<u64, Stream>,
    by_container: HashMap<Vmid, usize>,
}

struct Stream {
    grant: IdeGrant,
    expires_at_ms: i64,
    close: CancellationToken,
}

impl Registry {
    /// A registry that allows so many streams per container.
    #[must_use]
    pub fn new(per_container: usize) -> Arc<Self> {
        Arc::new(Self {
            streams: Mutex::default(),
            per_container,
            tasks: TaskTracker::new(),
            ended: CancellationToken::new(),
        })
    }

    /// Notes a stream; none when its container has as many as it may. It is open until the guard drops.
    #[must_use]
    pub fn open(self: &Arc<Self>, grant: IdeGrant, expires_at_ms: i64) -> Option<StreamGuard> {
        let mut streams = self.lock();
        let count = streams.by_container.entry(grant.vmid).or_default();
        if *count >= self.per_container {
            return None;
        }
        *count += 1;
        let id = streams.next;
        streams.next += 1;
        let close = self.ended.child_token();
        streams.open.insert(id, Stream { grant, expires_at_ms, close: close.clone() });
        Some(StreamGuard { id, vmid: grant.vmid, close, registry: Arc::clone(self) })
    }

    /// Runs a stream's work, which with [`Registry::close_all`] has a moment to say goodbye.
    pub fn spawn_stream(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            let late = async {
                ended.cancelled().await;
                crate::clock::pause(GOODBYE).await;
            };
            tokio::select! {
                () = late => {}
                () = work => {}
            }
        });
    }

    /// Runs other work, such as that of half-made connections. It ends with [`Registry::close_all`] at the latest.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = ended.cancelled() => {}
                () = work => {}
            }
        });
    }

    /// What open streams hang on, each once.
    #[must_use]
    pub fn grants(&self) -> HashSet<IdeGrant> {
        self.lock().open.values().map(|stream| stream.grant).collect()
    }

    /// How many streams are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.lock().open.len()
    }

    /// Closes the streams that hang on one of these.
    pub fn close_revoked(&self, revoked: &HashSet<IdeGrant>) -> usize {
        self.close(|stream| revoked.contains(&stream.grant))
    }

    /// Closes the streams whose time is over.
    pub fn close_expired(&self, now_ms: i64) -> usize {
        self.close(|stream| stream.expires_at_ms <= now_ms)
    }

    /// Closes everything, for good, and waits until it is closed.
    pub async fn close_all(&self) {
        self.ended.cancel();
        self.tasks.close();
        self.tasks.wait().await;
    }

    fn close(&self, which: impl Fn(&Stream) -> bool) -> usize {
        let streams = self.lock();
        let closing = streams.open.values().filter(|stream| which(stream));
        closing.map(|stream| stream.close.cancel()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Streams> {
        self.streams.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open stream.
pub struct StreamGuard {
    id: u64,
    vmid: Vmid,
    close: CancellationToken,
    registry: Arc<Registry>,
}

impl StreamGuard {
    /// Waits until the stream must be closed.
    pub async fn closed(&self) -> Closing {
        self.close.cancelled().await;
        if self.registry.ended.is_cancelled() { Closing::Restart } else { Closing::Revoked }
    }

    /// The same, for who does not borrow.
    pub fn closed_owned(&self) -> WaitForCancellationFutureOwned {
        self.close.clone().cancelled_owned()
    }
}

impl Drop for StreamGuard {
    fn drop(&mut self) {
        let mut streams = self.registry.lock();
        streams.open.remove(&self.id);
        if let Some(count) = streams.by_container.get_mut(&self.vmid) {
            *count -= 1;
            if *count == 0 {
                streams.by_container.remove(&self.vmid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zlh_ids::{InstanceId, SessionId, UserId};

    fn grant(vmid: u32) -> IdeGrant {
        IdeGrant {
            vmid: Vmid::new(vmid).unwrap(),
            instance_id: InstanceId::random(),
            user_id: UserId::random(),
            session_id: SessionId::random(),
        }
    }

    #[test]
    fn a_container_has_a_bounded_number_of_streams() {
        let registry = Registry::new(2);
        let first = registry.open(grant(1), 10).unwrap();
        let _second = registry.open(grant(1), 10).unwrap();

        assert!(registry.open(grant(1), 10).is_none());
        assert!(registry.open(grant(2), 10).is_some());
        drop(first);
        assert!(registry.open(grant(1), 10).is_some());
    }

    #[test]
    fn only_streams_of_revoked_or_expired_rights_are_closed() {
        let registry = Registry::new(8);
        let (kept, revoked) = (grant(1), grant(1));
        let stays = registry.open(kept, 10).unwrap();
        let goes = registry.open(revoked, 10).unwrap();
        let old = registry.open(kept, 5).unwrap();

        assert_eq!(registry.close_revoked(&HashSet::from([revoked])), 1);
        assert_eq!(registry.close_expired(5), 1);

        assert!(goes.close.is_cancelled() && old.close.is_cancelled());
        assert!(!stays.close.is_cancelled());
    }
}
