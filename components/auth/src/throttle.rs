//! Slows the guessing of passwords down, on whatever account it is tried (G30).
//!
//! A failure is counted in up to three scopes, and each allows so many before the next attempt must wait: twice
//! as long after each further one. An account's own scope does not hold up networks that it was used from, or
//! else anybody could keep its owner out. Counts are in the database, so a restart forgives nothing.

use std::time::Duration;

use zlh_authn::token::hash_secret;
use zlh_storage::{Database, Db, StoreError, Value};

/// How long nothing must happen until failures are forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);
/// Old counts that are removed at one attempt: more than it adds.
const REMOVED_AT_ONCE: i64 = 20;

/// An attempt that is being made. It counts as failed from the start, so that of many at once no more are let
/// through than of as many in a row.
pub(crate) struct Attempt {
    scopes: Vec<Scope>,
}

struct Scope {
    key: String,
    free: u32,
    longest: Duration,
}

/// What an attempt is about.
pub(crate) struct Target<'a> {
    /// The account, or what was taken for the name of one: both wait alike.
    pub(crate) account: &'a str,
    /// Where it comes from.
    pub(crate) network: Option<&'a str>,
    /// The account was used from there before.
    pub(crate) known: bool,
}

/// What comes of asking for an attempt.
pub(crate) enum Admission {
    /// It may be made.
    Admitted(Attempt),
    /// Not before so long.
    Wait(Duration),
}

impl Attempt {
    /// Notes an attempt, if it may be made now.
    pub(crate) async fn begin(
        database: &Database,
        target: &Target<'_>,
        now_ms: i64,
    ) -> Result<Admission, StoreError> {
        let scopes = scopes(target);
        let tx = database.open().await?.begin().await?;
        let mut wait = Duration::ZERO;
        for scope in &scopes {
            wait = wait.max(scope.wait(&tx, now_ms).await?);
        }
        if wait > Duration::ZERO {
            return Ok(Admission::Wait(wait));
        }
        for scope in &scopes {
            scope.count(&tx, now_ms).await?;
        }
        forget(&tx, now_ms).await?;
        tx.commit().await?;
        Ok(Admission::Admitted(Self { scopes }))
    }

    /// The password was right: it was no failure, and those before it from there were their owner's.
    pub(crate) async fn succeeded(self, db: &Db) -> Result<(), StoreError> {
        for (index, scope) in self.scopes.iter().enumerate() {
            let sql = if index == 0 {
                "DELETE FROM login_failures WHERE scope = $1"
            } else {
                "UPDATE login_failures SET failures = failures - 1 WHERE scope = $1 AND failures > 0"
            };
            db.execute(sql, &[scope.key.as_str().into()]).await?;
        }
        Ok(())
    }
}

/// The account from this network first.
fn scopes(target: &Target<'_>) -> Vec<Scope> {
    let account = hash_secret(target.account);
    let network = target.network.unwrap_or("unknown");
    let minutes = |count: u64| Duration::from_secs(count * 60);
    let mut scopes = vec![Scope {
        key: format!("account {account} from {network}"),
        free: 10,
        longest: minutes(15),
    }];
    if !target.known {
        scopes.push(Scope { key: format!("account {account}"), free: 30, longest: minutes(1) });
    }
    // Behind a proxy that nobody trusts, everybody would wait for one.
    if let Some(network) = target.network {
        scopes.push(Scope { key: format!("from {network}"), free: 100, longest: minutes(15) });
    }
    scopes
}

impl Scope {
    /// How long it has to be waited for from now on.
    async fn wait(&self, db: &Db, now_ms: i64) -> Result<Duration, StoreError> {
        let row = db
            .query_one(
                "SELECT failures, last_at FROM login_failures WHERE scope = $1 AND last_at > $2",
                &[self.key.as_str().into(), forgotten_before(now_ms).into()],
            )
            .await?;
        let Some(row) = row else { return Ok(Duration::ZERO) };
        let (failures, last_at): (i64, i64) = (row.get(0)?, row.get(1)?);
        let passed =
            Duration::from_millis(u64::try_from(now_ms.saturating_sub(last_at)).unwrap_or(0));
        Ok(self.delay(failures).saturating_sub(passed))
    }

    /// Between the last of so many failures and the next attempt.
    fn delay(&self, failures: i64) -> Duration {
        let beyond = u32::try_from(failures).unwrap_or(u32::MAX).checked_sub(self.free);
        let doubled = |times| Duration::from_secs(1).checked_mul(2_u32.checked_pow(times)?);
        beyond.map_or(Duration::ZERO, |times| {
            doubled(times).unwrap_or(self.longest).min(self.longest)
        })
    }

    async fn count(&self, db: &Db, now_ms: i64) -> Result<(), StoreError> {
        db.execute(
            "INSERT INTO login_failures (scope, failures, last_at) VALUES ($1, 1, $2) \
             ON CONFLICT (scope) DO UPDATE SET last_at = excluded.last_at, failures = \
             CASE WHEN login_failures.last_at > $3 THEN login_failures.failures + 1 ELSE 1 END",
            &[self.key.as_str().into(), now_ms.into(), forgotten_before(now_ms).into()],
        )
        .await
    }
}

async fn forget(db: &Db, now_ms: i64) -> Result<(), StoreError> {
    let oldest = [Value::from(forgotten_before(now_ms)), REMOVED_AT_ONCE.into()];
    db.execute(
        "DELETE FROM login_failures WHERE scope IN \
         (SELECT scope FROM login_failures WHERE last_at <= $1 ORDER BY last_at LIMIT $2)",
        &oldest,
    )
    .await
}

fn forgotten_before(now_ms: i64) -> i64 {
    now_ms.saturating_sub(i64::try_from(FORGOTTEN_AFTER.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_doubles_up_to_its_longest() {
        let scope = Scope { key: String::new(), free: 10, longest: Duration::from_secs(900) };

        let delays = [0, 9, 10, 11, 14, 19, 20, 1_000_000].map(|n| scope.delay(n).as_secs());

        assert_eq!(delays, [0, 0, 1, 2, 16, 512, 900, 900]);
    }
}
