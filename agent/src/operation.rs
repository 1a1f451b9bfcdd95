//! One mutating operation at a time.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Hands out the right to change something.
#[derive(Debug)]
pub(crate) struct Operations {
    permit: Arc<Semaphore>,
    current: Arc<Mutex<Option<&'static str>>>,
}

/// That right. Dropping it, in whatever way its task ends, gives it back.
#[derive(Debug)]
pub(crate) struct Operation {
    _permit: OwnedSemaphorePermit,
    current: Arc<Mutex<Option<&'static str>>>,
}

impl Operations {
    pub(crate) fn new() -> Self {
        Self { permit: Arc::new(Semaphore::new(1)), current: Arc::default() }
    }

    /// The operation that runs now.
    pub(crate) fn current(&self) -> Option<&'static str> {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// None while another one runs.
    pub(crate) fn try_begin(&self, kind: &'static str) -> Option<Operation> {
        let permit = Arc::clone(&self.permit).try_acquire_owned().ok()?;
        Some(self.begun(permit, kind))
    }

    /// Waits for its turn. Dropping the future leaves the queue.
    pub(crate) async fn begin(&self, kind: &'static str) -> Option<Operation> {
        let permit = Arc::clone(&self.permit).acquire_owned().await.ok()?;
        Some(self.begun(permit, kind))
    }

    fn begun(&self, permit: OwnedSemaphorePermit, kind: &'static str) -> Operation {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(kind);
        Operation { _permit: permit, current: Arc::clone(&self.current) }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panicking_operation_makes_room_for_the_next() {
        let operations = Operations::new();
        let operation = operations.try_begin("config").unwrap();
        assert!(operations.try_begin("codeserver-stop").is_none());
        assert_eq!(operations.current(), Some("config"));

        let task = tokio::spawn(async move {
            let _operation = operation;
            panic!("on purpose");
        });

        assert!(task.await.unwrap_err().is_panic());
        assert_eq!(operations.current(), None);
        assert!(operations.try_begin("codeserver-stop").is_some());
    }
}
