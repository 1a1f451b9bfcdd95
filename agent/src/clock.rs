//! Time as a value, and pauses.

use std::sync::Arc;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::process::Entry;

/// Tells the time.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// The machine's clock.
#[must_use]
pub fn system() -> Clock {
    Arc::new(OffsetDateTime::now_utc)
}

/// RFC 3339 in UTC, whole seconds.
pub(crate) fn text(clock: &Clock) -> String {
    rfc3339(clock())
}

/// RFC 3339, whole seconds.
pub(crate) fn rfc3339(at: OffsetDateTime) -> String {
    at.replace_nanosecond(0).unwrap_or(at).format(&Rfc3339).unwrap_or_default()
}

/// Unix time in milliseconds.
pub(crate) fn to_ms(at: OffsetDateTime) -> i64 {
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}

/// None for what no calendar has.
pub(crate) fn from_ms(milliseconds: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(milliseconds) * 1_000_000).ok()
}

/// Names this start of the machine and of the container: what ran in another one has ended. Reads `/proc`.
pub(crate) fn boot() -> String {
    let machine = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let container = Entry::read(1).map(|init| init.started).unwrap_or_default();
    format!("{}:{container}", machine.trim())
}

/// Waits, where a pause is the point.
#[expect(
    clippy::disallowed_methods,
    reason = "back-off and polling of processes that are not ours to await"
)]
pub(crate) async fn pause(time: Duration) {
    tokio::time::sleep(time).await;
}
