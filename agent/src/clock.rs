//! Time as a value, and pauses.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// The machine's clock.
#[must_use]
pub fn system() -> Clock {
    Arc::new(OffsetDateTime::now_utc)
}

/// RFC 3339 in UTC, whole seconds.
pub(crate) fn text(clock: &Clock) -> String {
    let now = clock();
    now.replace_nanosecond(0).unwrap_or(now).format(&Rfc3339).unwrap_or_default()
}

/// Waits, where a pause is the point.
#[expect(
    clippy::disallowed_methods,
    reason = "back-off and polling of processes that are not ours to await"
)]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
