//! Room for instances: a part of it is each component's own, so that none takes the place of all others.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Where one component finds room for an instance.
#[derive(Debug, Clone)]
pub(crate) struct Slots {
    own: Arc<Semaphore>,
    shared: Arc<Semaphore>,
}

/// Divides room for `total` instances among `components`: half of it evenly, at least one each, and the
/// rest for whoever comes first.
#[derive(Debug)]
pub(crate) struct Room {
    own: usize,
    shared: Arc<Semaphore>,
}

impl Room {
    pub(crate) fn new(total: usize, components: usize) -> Self {
        let components = components.max(1);
        let own = (total / (2 * components)).max(1);
        let shared = total.saturating_sub(own.saturating_mul(components));
        Self { own, shared: Arc::new(Semaphore::new(shared)) }
    }

    /// The part of one component.
    pub(crate) fn slots(&self) -> Slots {
        Slots { own: Arc::new(Semaphore::new(self.own)), shared: Arc::clone(&self.shared) }
    }
}

impl Slots {
    /// Waits for room.
    ///
    /// # Errors
    ///
    /// None; the semaphores are never closed.
    pub(crate) async fn acquire(&self) -> Result<OwnedSemaphorePermit, AcquireError> {
        tokio::select! {
            biased;
            own = Arc::clone(&self.own).acquire_owned() => own,
            shared = Arc::clone(&self.shared).acquire_owned() => shared,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// As many as there is room for at this moment.
    fn fill(slots: &Slots) -> Vec<OwnedSemaphorePermit> {
        std::iter::from_fn(|| slots.acquire().now_or_never()).map(Result::unwrap).collect()
    }

    #[test]
    fn one_that_takes_all_it_can_leaves_the_others_their_part() {
        let room = Room::new(12, 3);
        let (greedy, modest) = (room.slots(), room.slots());

        let taken = fill(&greedy);
        let left = fill(&modest);

        assert_eq!((taken.len(), left.len()), (2 + 6, 2));
        drop(taken);
        assert_eq!(fill(&modest).len(), 6);
    }

    #[test]
    fn everyone_has_room_for_one() {
        let room = Room::new(2, 3);

        assert_eq!(fill(&room.slots()).len(), 1);
    }
}
