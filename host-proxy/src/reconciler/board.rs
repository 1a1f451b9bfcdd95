//! Which containers are being worked on, for those who must not touch them meanwhile.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use zlh_ids::{OperationId, Vmid};

/// Operations in progress.
#[derive(Default)]
pub struct Board {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    operations: HashMap<OperationId, Vmid>,
    drained: bool,
}

impl Board {
    /// An empty board.
    #[must_use]
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Whether an operation works on the container.
    #[must_use]
    pub fn is_busy(&self, vmid: Vmid) -> bool {
        self.lock().operations.values().any(|busy| *busy == vmid)
    }

    /// Whether no operation was left to claim, so that all there are are on the board.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.lock().drained
    }

    pub(super) fn set_drained(&self, drained: bool) {
        self.lock().drained = drained;
    }

    pub(super) fn operations(&self) -> Vec<OperationId> {
        self.lock().operations.keys().copied().collect()
    }

    /// The operation is in progress until the place drops.
    pub(super) fn begin(self: &Arc<Self>, operation: OperationId, vmid: Vmid) -> Place {
        let mut state = self.lock();
        state.operations.insert(operation, vmid);
        state.drained = false;
        Place { board: Arc::clone(self), operation }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

pub(super) struct Place {
    board: Arc<Board>,
    operation: OperationId,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.board.lock();
        state.operations.remove(&self.operation);
        // It may be there to be claimed again, if it was given up.
        state.drained = false;
    }
}
