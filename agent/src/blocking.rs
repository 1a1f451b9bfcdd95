//! Work that waits for a disk or reads all of `/proc`, kept off the threads that serve requests.

use tokio::task::spawn_blocking;

/// Does the work and waits for it. It panics where the work does.
///
/// Dropping the future does not end the work.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match spawn_blocking(work).await.map_err(tokio::task::JoinError::try_into_panic) {
        Ok(done) => done,
        Err(Ok(panic)) => std::panic::resume_unwind(panic),
        // The runtime is ending, and this task with it.
        Err(Err(_)) => std::future::pending().await,
    }
}
