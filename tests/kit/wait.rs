//! Waiting on a state.

use std::fmt::Debug;
use std::panic::Location;
use std::time::{Duration, Instant};

/// How often a state is looked at.
const EVERY: Duration = Duration::from_millis(100);

/// Looks at a state until it is as wanted and answers it; after `limit`, panics with the last value seen.
///
/// A probe that hangs is given up at the limit, too.
#[track_caller]
pub fn eventually<T, P, D>(limit: Duration, mut probe: P, mut done: D) -> impl Future<Output = T>
where
    T: Debug,
    P: AsyncFnMut() -> T,
    D: FnMut(&T) -> bool,
{
    let caller = Location::caller();
    async move {
        let started = Instant::now();
        let mut last = None;
        let mut interval = tokio::time::interval(EVERY);
        loop {
            interval.tick().await;
            let left = limit.saturating_sub(started.elapsed());
            match tokio::time::timeout(left, probe()).await {
                Ok(value) if done(&value) => return value,
                Ok(value) if started.elapsed() < limit => last = Some(value),
                Ok(value) => {
                    panic!("{caller}: not so within {limit:?}; the last value was {value:#?}")
                }
                Err(_) => panic!("{caller}: not so within {limit:?}; the last value was {last:#?}"),
            }
        }
    }
}
