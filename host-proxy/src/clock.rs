//! The one place that reads the wall clock.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unix time in milliseconds.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
pub fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Unix time in seconds, as tokens carry it.
#[must_use]
pub fn unix_seconds() -> i64 {
    unix_ms() / 1000
}

/// Lets time pass where that is the point: between two looks at something that cannot notify.
#[expect(clippy::disallowed_methods, reason = "the one pause that waits for time itself")]
pub(crate) async fn pause(duration: std::time::Duration) {
    tokio::time::sleep(duration).await;
}
