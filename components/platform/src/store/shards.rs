//! Who polls which agents: the agents are divided into shards, and the shards among the host-proxies that are
//! alive, so that each agent is polled by one of them.

use std::collections::BTreeSet;

use zlh_storage::{Db, StoreError};

/// Number of shards. An agent's is the rest of its vmid; neighbours are made one after the other, so they
/// spread evenly.
pub(crate) const SHARDS: i64 = 32;

/// Gives the poller its fair part of the shards until `alive_until`, and says which those are. Shards of
/// pollers that were not heard of in time are free; one that has more than its part gives the rest back.
pub(crate) async fn claim(
    db: &Db,
    poller: &str,
    now_ms: i64,
    alive_until: i64,
) -> Result<BTreeSet<i64>, StoreError> {
    db.execute(
        "DELETE FROM poll_shards WHERE poller IN \
         (SELECT name FROM pollers WHERE alive_until <= $1 AND name <> $2)",
        &[now_ms.into(), poller.into()],
    )
    .await?;
    db.execute(
        "DELETE FROM pollers WHERE alive_until <= $1 AND name <> $2",
        &[now_ms.into(), poller.into()],
    )
    .await?;
    db.execute(
        "INSERT INTO pollers (name, alive_until) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET alive_until = excluded.alive_until",
        &[poller.into(), alive_until.into()],
    )
    .await?;
    let pollers = db.query_one("SELECT COUNT(*) FROM pollers", &[]).await?;
    let pollers: i64 = pollers.map_or(Ok(1), |row| row.get(0))?;
    let fair = usize::try_from((SHARDS + pollers - 1) / pollers.max(1)).unwrap_or_default();

    let mut free: BTreeSet<i64> = (0..SHARDS).collect();
    let mut own = BTreeSet::new();
    for row in db.query("SELECT shard, poller FROM poll_shards", &[]).await? {
        let (shard, holder): (i64, String) = (row.get(0)?, row.get(1)?);
        free.remove(&shard);
        if holder == poller {
            own.insert(shard);
        }
    }
    while own.len() > fair
        && let Some(shard) = own.pop_last()
    {
        db.execute("DELETE FROM poll_shards WHERE shard = $1", &[shard.into()]).await?;
    }
    for shard in free.into_iter().take(fair.saturating_sub(own.len())) {
        db.execute(
            "INSERT INTO poll_shards (shard, poller) VALUES ($1, $2)",
            &[shard.into(), poller.into()],
        )
        .await?;
        own.insert(shard);
    }
    Ok(own)
}

/// Gives back all that the poller has.
pub(crate) async fn release(db: &Db, poller: &str) -> Result<(), StoreError> {
    db.execute("DELETE FROM poll_shards WHERE poller = $1", &[poller.into()]).await?;
    db.execute("DELETE FROM pollers WHERE name = $1", &[poller.into()]).await
}
