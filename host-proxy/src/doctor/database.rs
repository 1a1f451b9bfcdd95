//! The database and the key-value store: reachable, and of a kind and version that we can use.

use std::path::PathBuf;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use super::Verdict;
use crate::clock::unix_ms;
use crate::component_host::probe::{self, Server};
use crate::config::{Config, DatabaseUrl};

/// Tests run on 15; 14 is the oldest that speaks all that we say.
const LEAST_POSTGRES: i32 = 140_000;
/// Leases and tokens are made and judged by different machines.
const CLOCKS_MAY_DIFFER_MS: u64 = 2_000;
const CLOCKS_MUST_NOT_DIFFER_MS: u64 = 30_000;
const SQLITE_TIMEOUT: Duration = Duration::from_secs(2);

const NEWER: &str = "run the newer zlh that migrated it, or restore a backup of before";

pub(super) async fn database(config: &Config) -> Verdict {
    let newest = zlh_storage::newest_version();
    match &config.database {
        Some(database) => match probe::postgres(&database.url).await {
            Ok(server) => judge(database, &server, newest),
            Err(reason) => Verdict::wrong(
                format!("{} does not answer: {reason}", database.allowed_host),
                "correct `ZLH_DATABASE_URL`, or start the database and let this machine in",
            ),
        },
        None => sqlite(config, newest),
    }
}

fn judge(database: &DatabaseUrl, server: &Server, newest: i64) -> Verdict {
    let at = &database.allowed_host;
    let Server { version, encoding, schema, .. } = server;
    if *version < LEAST_POSTGRES {
        let text = format!("{at} is PostgreSQL {}", version / 10_000);
        return Verdict::wrong(text, "use PostgreSQL 14 or newer");
    }
    if encoding != "UTF8" {
        let text = format!("the encoding of the database at {at} is {encoding}");
        return Verdict::wrong(text, "make one with `CREATE DATABASE … ENCODING 'UTF8'`");
    }
    if !server.may_create {
        let text = format!("the user may not make tables in the database at {at}");
        return Verdict::wrong(text, "let the user own it: `ALTER DATABASE … OWNER TO …`");
    }
    let text = format!("{at} is PostgreSQL {}, {}", version / 10_000, stage(*schema, newest));
    if schema.is_some_and(|schema| schema > newest) {
        return Verdict::wrong(text, NEWER);
    }
    if server.synchronous_commit == "off" {
        return Verdict::warn(format!(
            "{text}; `synchronous_commit` is off: what was answered may be lost in a crash"
        ));
    }
    Verdict::ok(text)
}

fn sqlite(config: &Config, newest: i64) -> Verdict {
    let path = match probe::runtime_config(config.runtime_config.as_deref()) {
        Ok(found) => found.sqlite,
        Err(_) => {
            return Verdict::warn("not looked at, because the runtime configuration is wrong");
        }
    };
    let path = path.unwrap_or_else(|| config.data_dir.join("state/sqlite_db.db"));
    let shown = path.display().to_string();
    if !path.exists() {
        return Verdict::ok(format!("SQLite; {shown} is made at the first start"));
    }
    match sqlite_schema(path) {
        Ok(schema) => {
            let text = format!("SQLite at {shown}, {}", stage(schema, newest));
            match schema.is_some_and(|schema| schema > newest) {
                true => Verdict::wrong(text, NEWER),
                false => Verdict::ok(text),
            }
        }
        Err(error) => Verdict::wrong(
            format!("{shown} cannot be read: {error}"),
            "restore it from a backup, or run zlh as its owner",
        ),
    }
}

fn sqlite_schema(path: PathBuf) -> rusqlite::Result<Option<i64>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    database.busy_timeout(SQLITE_TIMEOUT)?;
    let there = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema_migrations')";
    match database.query_row(there, [], |row| row.get(0))? {
        true => {
            let newest = "SELECT COALESCE(MAX(version), 0) FROM schema_migrations";
            database.query_row(newest, [], |row| row.get(0)).map(Some)
        }
        false => Ok(None),
    }
}

/// Where a schema is, and where ours is.
fn stage(schema: Option<i64>, newest: i64) -> String {
    match schema {
        None => "empty: the tables are made at the first start".to_owned(),
        Some(schema) if schema < newest => {
            format!("its schema at version {schema}: the next start brings it to {newest}")
        }
        Some(schema) if schema > newest => {
            format!("its schema at version {schema}, and this zlh knows up to {newest}")
        }
        Some(schema) => format!("its schema at version {schema}"),
    }
}

pub(super) async fn clock(config: &Config) -> Verdict {
    let Some(database) = &config.database else {
        return Verdict::ok("nothing to compare it with: the database is in this process");
    };
    let before = unix_ms();
    match probe::postgres(&database.url).await {
        Ok(server) => {
            let theirs = server.now.unix_timestamp_nanos() / 1_000_000;
            let theirs = i64::try_from(theirs).unwrap_or(i64::MAX);
            judge_clock(theirs, before, unix_ms())
        }
        Err(_) => Verdict::warn("not compared, because the database does not answer"),
    }
}

/// The database was asked after `before` and had answered at `after`.
fn judge_clock(theirs: i64, before: i64, after: i64) -> Verdict {
    let apart = theirs.abs_diff(theirs.clamp(before, after.max(before)));
    let text = format!("{:.1} s from the database's", apart as f64 / 1000.0);
    if apart > CLOCKS_MUST_NOT_DIFFER_MS {
        return Verdict::wrong(text, "set both clocks by NTP");
    }
    if apart > CLOCKS_MAY_DIFFER_MS {
        return Verdict::warn(format!("{text}: leases of several zlh rely on clocks that agree"));
    }
    Verdict::ok(text)
}

pub(super) async fn redis(config: &Config) -> Verdict {
    let Ok(found) = probe::runtime_config(config.runtime_config.as_deref()) else {
        return Verdict::warn("not looked at, because the runtime configuration is wrong");
    };
    for (label, url) in &found.redis {
        if let Err(reason) = probe::redis(url).await {
            return Verdict::wrong(
                format!("the Redis of the key-value store `{label}` does not answer: {reason}"),
                "correct its `url` in the runtime configuration, or start it",
            );
        }
    }
    match found.redis.len() {
        0 => Verdict::ok("none: key-value stores are in the data folder"),
        count => Verdict::ok(format!("answers, for {count} key-value store(s)")),
    }
}

#[cfg(test)]
mod tests {
    use time::OffsetDateTime;

    use super::*;

    fn judged(change: impl FnOnce(&mut Server)) -> Verdict {
        let mut server = Server {
            version: 150_004,
            encoding: "UTF8".to_owned(),
            synchronous_commit: "on".to_owned(),
            now: OffsetDateTime::UNIX_EPOCH,
            may_create: true,
            schema: Some(5),
        };
        change(&mut server);
        let database = DatabaseUrl::parse("postgres://u:secret@db.example/zlh").unwrap();
        judge(&database, &server, 5)
    }

    #[test]
    fn a_database_that_we_cannot_use_is_told_apart() {
        assert!(matches!(judged(|_| ()), Verdict::Ok { .. }));
        assert!(matches!(judged(|server| server.schema = None), Verdict::Ok { .. }));
        assert!(matches!(judged(|server| server.schema = Some(4)), Verdict::Ok { .. }));
        let wrong = |change: fn(&mut Server)| match judged(change) {
            Verdict::Wrong { text, .. } => text,
            verdict => panic!("{verdict:?}"),
        };
        assert!(wrong(|server| server.schema = Some(6)).contains("version 6"));
        assert!(wrong(|server| server.version = 130_012).contains("PostgreSQL 13"));
        assert!(wrong(|server| server.encoding = "LATIN1".to_owned()).contains("LATIN1"));
        assert!(wrong(|server| server.may_create = false).contains("tables"));
        let lossy = judged(|server| server.synchronous_commit = "off".to_owned());
        assert!(matches!(lossy, Verdict::Warn { .. }), "{lossy:?}");
    }

    #[test]
    fn clocks_are_compared_with_the_time_that_asking_took() {
        assert!(matches!(judge_clock(5_000, 1_000, 9_000), Verdict::Ok { .. }));
        assert!(matches!(judge_clock(11_000, 1_000, 9_000), Verdict::Ok { .. }));
        assert!(matches!(judge_clock(11_001, 1_000, 9_000), Verdict::Warn { .. }));
        assert!(matches!(judge_clock(39_001, 1_000, 9_000), Verdict::Wrong { .. }));
        assert!(matches!(judge_clock(0, 30_001, 30_002), Verdict::Wrong { .. }));
    }

    #[test]
    fn an_sqlite_file_says_how_far_it_was_migrated() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.db");
        let database = Connection::open(&path).unwrap();
        database.execute_batch("PRAGMA journal_mode = WAL; CREATE TABLE other (a)").unwrap();
        assert_eq!(sqlite_schema(path.clone()).unwrap(), None);

        database
            .execute_batch(
                "CREATE TABLE schema_migrations (version BIGINT PRIMARY KEY); \
                 INSERT INTO schema_migrations VALUES (1), (3)",
            )
            .unwrap();
        assert_eq!(sqlite_schema(path.clone()).unwrap(), Some(3));

        std::fs::write(folder.path().join("b.db"), "not a database, but long enough to be read")
            .unwrap();
        sqlite_schema(folder.path().join("b.db")).unwrap_err();
    }
}
