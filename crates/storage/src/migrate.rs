//! Numbered migrations, applied in order under the write lock.

use crate::{Database, StoreError};

/// Never edited after release: a change is another file.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "accounts", include_str!("../migrations/0001_accounts.sql")),
    (2, "instances", include_str!("../migrations/0002_instances.sql")),
    (3, "ide_sessions", include_str!("../migrations/0003_ide_sessions.sql")),
    (4, "audit_log", include_str!("../migrations/0004_audit_log.sql")),
    (5, "upkeep", include_str!("../migrations/0005_upkeep.sql")),
    (6, "many_hosts", include_str!("../migrations/0006_many_hosts.sql")),
    (7, "games", include_str!("../migrations/0007_games.sql")),
    (9, "gateways", include_str!("../migrations/0009_gateways.sql")),
    (10, "logins", include_str!("../migrations/0010_logins.sql")),
];

/// What [`migrate`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Migrated {
    /// Names of the migrations that it applied.
    pub applied: Vec<String>,
    /// Version of the schema now.
    pub version: i64,
    /// There is none left.
    pub complete: bool,
}

/// The newest version of the schema that this program knows.
#[must_use]
pub fn newest_version() -> i64 {
    MIGRATIONS.last().map_or(0, |(version, ..)| *version)
}

/// Brings the schema up to date. Several callers at once are fine: one does it, the others find it done.
///
/// # Errors
///
/// [`StoreError::TooNew`] when the database was migrated by a newer program.
pub async fn migrate(database: &Database, now_ms: i64) -> Result<Migrated, StoreError> {
    migrate_while(database, now_ms, || true).await
}

/// The same, asking after each migration whether to go on: all of them may take longer than a request may.
///
/// # Errors
///
/// [`StoreError::TooNew`] when the database was migrated by a newer program.
pub async fn migrate_while(
    database: &Database,
    now_ms: i64,
    go_on: impl Fn() -> bool,
) -> Result<Migrated, StoreError> {
    let db = database.open().await?;
    db.run(db.connection.dialect().on_migrate()).await?;
    let mut applied = Vec::new();
    loop {
        let (version, name) = migrate_once(database, now_ms).await?;
        let complete = name.is_none();
        applied.extend(name);
        if complete || !go_on() {
            return Ok(Migrated { applied, version, complete });
        }
    }
}

/// Applies the oldest migration that is missing, in a transaction of its own. Answers the version then, and
/// the migration's name.
async fn migrate_once(
    database: &Database,
    now_ms: i64,
) -> Result<(i64, Option<String>), StoreError> {
    let tx = database.open().await?.begin().await?;
    tx.execute(
        "CREATE TABLE IF NOT EXISTS schema_migrations \
         (version BIGINT PRIMARY KEY, name TEXT NOT NULL, applied_at BIGINT NOT NULL)",
        &[],
    )
    .await?;
    let found =
        match tx.query_one("SELECT COALESCE(MAX(version), 0) FROM schema_migrations", &[]).await? {
            Some(row) => row.get(0)?,
            None => 0,
        };
    let known = newest_version();
    if found > known {
        return Err(StoreError::TooNew { found, known });
    }
    let next = MIGRATIONS.iter().find(|(version, ..)| *version > found);
    let Some((version, name, sql)) = next else { return Ok((found, None)) };
    for statement in statements(sql) {
        tx.execute(statement, &[]).await?;
    }
    tx.execute(
        "INSERT INTO schema_migrations (version, name, applied_at) VALUES ($1, $2, $3)",
        &[(*version).into(), (*name).into(), now_ms.into()],
    )
    .await?;
    tx.commit().await?;
    Ok((*version, Some((*name).to_owned())))
}

/// A semicolon at the end of a line ends a statement.
fn statements(sql: &str) -> impl Iterator<Item = &str> {
    sql.split(";\n").map(str::trim).filter(|statement| !statement.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn migrating_twice_applies_each_migration_once() {
        let database = Database::in_memory().unwrap();

        let first = migrate(&database, 1).await.unwrap();
        let second = migrate(&database, 2).await.unwrap();

        assert_eq!(
            first.applied,
            [
                "accounts",
                "instances",
                "ide_sessions",
                "audit_log",
                "upkeep",
                "many_hosts",
                "games",
                "gateways",
                "logins"
            ]
        );
        let nothing = Migrated { applied: Vec::new(), version: first.version, complete: true };
        assert_eq!(second, nothing);
    }

    #[tokio::test]
    async fn migrating_is_done_in_as_many_calls_as_it_takes() {
        let database = Database::in_memory().unwrap();

        let first = migrate_while(&database, 1, || false).await.unwrap();
        let rest = migrate(&database, 2).await.unwrap();

        let wanted = Migrated { applied: vec!["accounts".to_owned()], version: 1, complete: false };
        assert_eq!(first, wanted);
        assert_eq!(rest.applied[0], "instances");
        assert!(rest.complete);
    }

    #[tokio::test]
    async fn a_newer_database_is_left_alone() {
        let database = Database::in_memory().unwrap();
        migrate(&database, 1).await.unwrap();
        let db = database.open().await.unwrap();
        db.execute("INSERT INTO schema_migrations VALUES (9999, 'from the future', 1)", &[])
            .await
            .unwrap();

        let error = migrate(&database, 2).await.unwrap_err();

        assert_eq!(
            error.to_string(),
            format!(
                "the database is at version 9999, this program knows up to {}",
                newest_version()
            )
        );
    }

    #[tokio::test]
    async fn parameters_are_counted_not_named() {
        let db = Database::in_memory().unwrap().open().await.unwrap();

        let row = db
            .query_one("SELECT $2, $1, $2", &["first".into(), "second".into()])
            .await
            .unwrap()
            .unwrap();

        let columns = [row.get(0), row.get(1), row.get(2)].map(Result::<String, _>::unwrap);
        assert_eq!(columns, ["second", "first", "second"]);
    }

    #[tokio::test]
    async fn foreign_keys_hold_in_the_first_statement_that_writes() {
        let database = Database::in_memory().unwrap();
        migrate(&database, 1).await.unwrap();
        let db = database.open().await.unwrap();
        db.query("SELECT 1", &[]).await.unwrap();

        let orphan = "INSERT INTO ports (port, instance_id, allocated_at) VALUES (1, 'nobody', 1)";

        assert!(db.execute(orphan, &[]).await.is_err());
    }

    #[tokio::test]
    async fn a_transaction_that_is_dropped_never_happened() {
        let database = Database::in_memory().unwrap();
        migrate(&database, 1).await.unwrap();

        let tx = database.open().await.unwrap().begin().await.unwrap();
        tx.execute("INSERT INTO vmid_counters (ctype, last) VALUES ('dev', 1)", &[]).await.unwrap();
        drop(tx);

        let db = database.open().await.unwrap();
        assert_eq!(db.query("SELECT * FROM vmid_counters", &[]).await.unwrap(), []);
    }
}
