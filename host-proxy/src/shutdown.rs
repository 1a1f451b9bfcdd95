//! Signals that ask for an end.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Cancelled by SIGTERM or SIGINT. A second one ends the process at once.
///
/// # Errors
///
/// Signals cannot be waited for.
pub fn on_signal() -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stopped = stop.clone();
    tokio::spawn(async move {
        for times in 0_u8.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if times > 0 {
                tracing::warn!("asked to end twice: ending at once");
                std::process::exit(130);
            }
            tracing::info!("ending; containers and what runs in them are left as they are");
            stopped.cancel();
        }
    });
    Ok(stop)
}
