//! Connections to one database file, lent to handles and kept for the next one.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::config::DbConfig;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::limits::Limit;
use rusqlite::{Connection, Result};

use super::statement::MAX_VALUE_BYTES;

/// Opening a connection parses the schema again, so a few are kept; each costs some 100 KiB.
const MAX_IDLE: usize = 8;
/// Virtual machine steps between two looks at whether the guest is gone: a fraction of a millisecond.
const STEPS_PER_CHECK: i32 = 10_000;
/// Statements that a connection keeps compiled.
const CACHED_STATEMENTS: usize = 64;

/// One database file.
#[derive(Debug)]
pub(crate) struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    /// Whether readers wait for nobody, as in write-ahead mode, which is a property of the file.
    wal: AtomicBool,
}

impl Pool {
    /// Opens the file once, so that one that cannot be opened stops the start.
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
        let pool = Self { path, idle: Mutex::default(), wal: AtomicBool::new(false) };
        let connection = pool.connect()?;
        pool.give_back(connection);
        Ok(pool)
    }

    fn take_idle(&self) -> Option<Connection> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }

    fn connect(&self) -> Result<Connection> {
        let mut connection = Connection::open(&self.path)?;
        connection.set_prepared_statement_cache_capacity(CACHED_STATEMENTS);
        // A guest must be able to damage neither the file nor the host's memory.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        // Plans do not depend on the values that are bound; else SQLite parses a statement again each time.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        let max_value_bytes = i32::try_from(MAX_VALUE_BYTES).unwrap_or(i32::MAX);
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, max_value_bytes)?;
        connection.authorizer(Some(authorize))?;
        Ok(connection)
    }

    /// Ends what a handle left open and keeps the connection, unless the handle changed it for good.
    fn give_back(&self, mut connection: Connection) {
        let reusable = reset(&mut connection).unwrap_or(false);
        if reusable {
            let wal =
                connection.query_row("PRAGMA journal_mode", [], |row| row.get::<_, String>(0));
            self.wal.store(wal.is_ok_and(|mode| mode == "wal"), Ordering::Relaxed);
            self.keep(connection);
        }
    }

    fn keep(&self, connection: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < MAX_IDLE {
            idle.push(connection);
        }
    }
}

/// Rolls back, restores SQLite's defaults, and tells whether nothing else is left of the handle.
fn reset(connection: &mut Connection) -> Result<bool> {
    connection.progress_handler(0, None::<fn() -> bool>)?;
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    connection.execute_batch(
        "PRAGMA foreign_keys = OFF; PRAGMA query_only = OFF; PRAGMA recursive_triggers = OFF;
         PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;",
    )?;
    let databases = "SELECT count(*) FROM pragma_database_list WHERE name <> 'main'";
    connection.prepare_cached(databases)?.query_row([], |row| Ok(row.get::<_, i64>(0)? == 0))
}

/// Denies reaching any other file. `VACUUM` attaches an unnamed temporary database to itself; a file
/// name that is not a literal is not shown to the authorizer and comes as an unknown action.
fn authorize(context: AuthContext<'_>) -> Authorization {
    const SQLITE_ATTACH: i32 = 24;
    match context.action {
        AuthAction::Attach { filename: "" } => Authorization::Allow,
        AuthAction::Attach { .. } | AuthAction::Unknown { code: SQLITE_ATTACH, .. } => {
            Authorization::Deny
        }
        AuthAction::Pragma { pragma_name, .. }
            if pragma_name.eq_ignore_ascii_case("temp_store_directory") =>
        {
            Authorization::Deny
        }
        _ => Authorization::Allow,
    }
}

/// A connection in the hands of one handle.
pub(super) struct Lease {
    /// Taken only when it is given back.
    connection: Option<Connection>,
    pool: Arc<Pool>,
    watch: Arc<Watch>,
}

/// What a running statement looks at every [`STEPS_PER_CHECK`].
#[derive(Debug)]
struct Watch {
    /// Its guest is gone.
    stopped: Arc<AtomicBool>,
    /// It runs where nothing may run for long.
    brief: AtomicBool,
}

impl Lease {
    /// Takes a connection; blocks. Statements on it are interrupted once `stopped` is set.
    pub(super) fn take(pool: Arc<Pool>, stopped: Arc<AtomicBool>) -> Result<Self> {
        let connection = pool.take_idle().map_or_else(|| pool.connect(), Ok)?;
        Self::new(pool, connection, stopped)
    }

    /// Takes a connection that is open and whose readers wait for nobody, if there is one.
    pub(super) fn take_idle(pool: &Arc<Pool>, stopped: &Arc<AtomicBool>) -> Option<Self> {
        if !pool.wal.load(Ordering::Relaxed) {
            return None;
        }
        let connection = pool.take_idle()?;
        Self::new(Arc::clone(pool), connection, Arc::clone(stopped)).ok()
    }

    fn new(pool: Arc<Pool>, mut connection: Connection, stopped: Arc<AtomicBool>) -> Result<Self> {
        let watch = Arc::new(Watch { stopped, brief: AtomicBool::new(false) });
        let seen = Arc::clone(&watch);
        connection.progress_handler(
            STEPS_PER_CHECK,
            Some(move || {
                seen.brief.load(Ordering::Relaxed) || seen.stopped.load(Ordering::Relaxed)
            }),
        )?;
        Ok(Self { connection: Some(connection), pool, watch })
    }

    pub(super) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    /// Runs what must end within [`STEPS_PER_CHECK`]; otherwise it is interrupted.
    pub(super) fn briefly<R>(&self, run: impl FnOnce(&Connection) -> R) -> Option<R> {
        self.watch.brief.store(true, Ordering::Relaxed);
        let result = self.connection().map(run);
        self.watch.brief.store(false, Ordering::Relaxed);
        result
    }

    /// Gives the connection back as it was taken: nothing but queries ran on it.
    pub(super) fn give_back_unchanged(mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.keep(connection);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let pool = Arc::clone(&self.pool);
        let give_back = move || pool.give_back(connection);
        // A rollback writes to the disk, so not on a runtime's thread.
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(give_back)),
            Err(_) => give_back(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rusqlite::StatementStatus;

    use super::*;

    fn pool() -> (tempfile::TempDir, Arc<Pool>) {
        let folder = tempfile::tempdir().unwrap();
        let pool = Arc::new(Pool::open(folder.path().join("db")).unwrap());
        (folder, pool)
    }

    fn lease(pool: &Arc<Pool>) -> Lease {
        Lease::take(Arc::clone(pool), Arc::default()).unwrap()
    }

    #[test]
    fn a_transaction_that_its_handle_abandons_is_rolled_back() {
        let (_folder, pool) = pool();
        let abandoned = lease(&pool);
        let sql = "CREATE TABLE t(x); BEGIN IMMEDIATE; INSERT INTO t VALUES (1)";
        abandoned.connection().unwrap().execute_batch(sql).unwrap();

        drop(abandoned);

        let lease = lease(&pool);
        let connection = lease.connection().unwrap();
        assert_eq!(pool.idle.lock().unwrap().len(), 0, "the same connection is lent again");
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        let count: i64 = connection.query_row("SELECT count(*) FROM t", [], |r| r.get(0)).unwrap();
        assert_eq!(count, 0);
    }

    #[test]
    fn settings_and_temporary_tables_of_a_handle_do_not_reach_the_next() {
        let (_folder, pool) = pool();
        let first = lease(&pool);
        first.connection().unwrap().execute_batch("PRAGMA foreign_keys = ON").unwrap();
        drop(first);
        let second = lease(&pool);
        let sql = "PRAGMA foreign_keys";
        let foreign_keys: i64 =
            second.connection().unwrap().query_row(sql, [], |r| r.get(0)).unwrap();
        second.connection().unwrap().execute_batch("CREATE TEMP TABLE t(x)").unwrap();

        drop(second);

        assert_eq!(foreign_keys, 0);
        assert_eq!(pool.idle.lock().unwrap().len(), 0);
    }

    #[test]
    fn no_other_file_can_be_reached() {
        let (folder, pool) = pool();
        let lease = lease(&pool);
        let connection = lease.connection().unwrap();
        let other = folder.path().join("other");
        connection.execute_batch("CREATE TABLE t(x)").unwrap();

        let literal = connection.execute_batch(&format!("ATTACH '{}' AS o", other.display()));
        let bound = connection.execute("ATTACH ?1 AS o", [other.to_str()]);
        let vacuum = connection.execute_batch(&format!("VACUUM INTO '{}'", other.display()));

        assert!(literal.is_err() && bound.is_err() && vacuum.is_err());
        assert!(!other.exists());
        connection.execute_batch("VACUUM").unwrap();
    }

    #[test]
    fn a_statement_is_compiled_once_whatever_is_bound_to_it() {
        let (_folder, pool) = pool();
        let lease = lease(&pool);
        let connection = lease.connection().unwrap();
        // Whether the partial index can be used depends on the value.
        let schema = "CREATE TABLE t(x, y); CREATE INDEX i ON t(x) WHERE y = 1";
        connection.execute_batch(schema).unwrap();

        let mut statement = connection.prepare("SELECT x FROM t WHERE x > 0 AND y = ?1").unwrap();
        for bound in [1, 2, 1] {
            assert!(!statement.exists([bound]).unwrap());
        }

        assert_eq!(statement.get_status(StatementStatus::RePrepare), 0);
    }

    #[test]
    fn a_statement_ends_when_its_guest_is_gone() {
        let (_folder, pool) = pool();
        let stopped = Arc::new(AtomicBool::new(true));
        let lease = Lease::take(pool, stopped).unwrap();

        let endless =
            "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x FROM c) SELECT max(x) FROM c";
        let result = lease.connection().unwrap().query_row(endless, [], |row| row.get::<_, i64>(0));

        let code = result.unwrap_err().sqlite_error_code();
        assert_eq!(code, Some(rusqlite::ErrorCode::OperationInterrupted));
    }
}
