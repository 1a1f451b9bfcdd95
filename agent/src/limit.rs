//! So many a second, and not more than a few at once.

use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use crate::error::ApiError;

/// A bucket that fills at a constant rate.
#[derive(Debug)]
pub(crate) struct Limit {
    rate: f64,
    burst: f64,
    bucket: Mutex<(f64, Instant)>,
}

impl Limit {
    /// Full: `rate` a second, `burst` at once.
    pub(crate) fn new(rate: f64, burst: f64) -> Self {
        Self { rate, burst, bucket: Mutex::new((burst, Instant::now())) }
    }

    /// # Errors
    ///
    /// Too many were taken.
    pub(crate) fn take(&self) -> Result<(), ApiError> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let filled = bucket.0 + now.duration_since(bucket.1).as_secs_f64() * self.rate;
        let (left, ok) = match filled.min(self.burst) {
            enough if enough >= 1.0 => (enough - 1.0, true),
            few => (few, false),
        };
        *bucket = (left, now);
        ok.then_some(()).ok_or_else(|| ApiError::TooMany("that is too fast".to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_followed_by_the_rate() {
        let limit = Limit::new(2.0, 3.0);
        let taken = || (0..9).filter(|_| limit.take().is_ok()).count();

        assert_eq!(taken(), 3);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(taken(), 2);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(taken(), 3);
    }
}
