//! Signals that ask for an end, or for another program in the place of this one.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::hand_over::Program;

/// An end that signals bring about, in two stages.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Cancelled at once: whoever spreads load shall look elsewhere.
    pub leaving: CancellationToken,
    /// Cancelled when nothing new shall begin.
    pub stop: CancellationToken,
    /// Another program shall go on, unless this is to end.
    replaced: Arc<AtomicBool>,
    /// Stronger than `replaced`, whichever came first.
    ending: Arc<AtomicBool>,
}

impl Shutdown {
    /// Begins with SIGTERM or SIGINT, and stops so much later; a second one ends the process at once. With
    /// SIGHUP it stops so that `program` goes on, if that runs at all.
    ///
    /// # Errors
    ///
    /// Signals cannot be waited for.
    pub fn on_signal(delay: Duration, program: Program) -> io::Result<Self> {
        let shutdown = Self::default();
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hang_up = signal(SignalKind::hangup())?;
        let (begun, replaced) = (shutdown.clone(), shutdown.clone());
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
                begun.ending.store(true, Ordering::Release);
                begun.clone().begin(delay);
            }
        });
        tokio::spawn(async move {
            while hang_up.recv().await.is_some() {
                match program.check().await {
                    Ok(_) if replaced.leaving.is_cancelled() => {
                        tracing::info!("this zlh is ending already");
                    }
                    Ok(version) => {
                        tracing::info!(version, "another zlh takes over");
                        replaced.replaced.store(true, Ordering::Release);
                        replaced.clone().begin(Duration::ZERO);
                    }
                    Err(error) => tracing::error!(
                        error = &error as &dyn std::error::Error,
                        "the program on disk cannot take over; this one goes on"
                    ),
                }
            }
        });
        Ok(shutdown)
    }

    /// Whether another program goes on with the listeners.
    #[must_use]
    pub fn is_replaced(&self) -> bool {
        self.replaced.load(Ordering::Acquire) && !self.ending.load(Ordering::Acquire)
    }

    /// Waits until this process shall end, and no other go on in its place.
    pub async fn ended(&self) {
        self.stop.cancelled().await;
        if self.is_replaced() {
            std::future::pending().await
        }
    }

    fn begin(self, delay: Duration) {
        self.leaving.cancel();
        if delay.is_zero() {
            self.stop.cancel();
            return;
        }
        tokio::spawn(async move {
            crate::clock::pause(delay).await;
            self.stop.cancel();
        });
    }
}
