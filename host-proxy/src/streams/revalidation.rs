//! Asks every two seconds whether open streams may stay open: a logout bites within five.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use zlh_agent_protocol::internal::{IdeGrant, RevalidateIde};

use super::registry::Registry;
use crate::clock;
use crate::ide_proxy::IdeAuthority;

const INTERVAL: Duration = Duration::from_secs(2);
/// How long streams stay open while nobody can say whether they may: a restart of the components fits.
const BENEFIT_OF_DOUBT: Duration = Duration::from_secs(60);
/// As many as one call may hold.
const MAX_GRANTS: usize = 1000;

/// Runs until `stop`.
pub async fn run(
    registry: Arc<Registry>,
    authority: Arc<dyn IdeAuthority>,
    stop: CancellationToken,
) {
    let mut ticks = tokio::time::interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last_answer = Instant::now();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        registry.close_expired(clock::unix_ms());
        let grants: Vec<IdeGrant> = registry.grants().into_iter().collect();
        if ask(&registry, &*authority, &grants).await {
            last_answer = Instant::now();
        } else if last_answer.elapsed() > BENEFIT_OF_DOUBT {
            let closed = registry.close_revoked(&grants.into_iter().collect());
            tracing::warn!(
                closed,
                "streams were closed because nobody could say that they may stay"
            );
        }
    }
}

/// Closes what is revoked; false when there was no answer.
async fn ask(registry: &Registry, authority: &dyn IdeAuthority, grants: &[IdeGrant]) -> bool {
    let mut answered = true;
    for accesses in grants.chunks(MAX_GRANTS) {
        match authority.revalidate(&RevalidateIde { accesses: accesses.to_vec() }).await {
            Ok(answer) => {
                let closed = registry.close_revoked(&answer.revoked.into_iter().collect());
                if closed > 0 {
                    tracing::info!(closed, "streams were closed because their right ended");
                }
            }
            Err(error) => {
                answered = false;
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "open streams were not checked"
                );
            }
        }
    }
    answered
}
