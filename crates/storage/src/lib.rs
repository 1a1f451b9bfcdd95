//! SQL for components: one [`Db`], its migrations, the audit log.
//!
//! In a component a `Db` is a connection that the host opened (`spin:sqlite`). Natively it is an in-memory
//! SQLite, so that handlers are tested over the statements that they really run.
//!
//! Statements keep to what SQLite ≥ 3.40 and PostgreSQL ≥ 14 both take: `$1` parameters, `RETURNING`,
//! `ON CONFLICT`, BIGINT Unix milliseconds, JSON as text. Values are parameters, so `$` is nothing else.

pub mod audit;
mod error;
mod migrate;
mod row;

#[cfg(target_family = "wasm")]
#[path = "spin.rs"]
mod backend;

#[cfg(not(target_family = "wasm"))]
#[path = "native.rs"]
mod backend;

pub use backend::Database;
pub use error::StoreError;
pub use migrate::{Migrated, migrate, migrate_while};
pub use row::{FromValue, Row, Value};

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

/// What makes a connection safe to write with. A host sets no pragma; WAL is a property of the file and set by
/// the migrations. A writer waits for as long as a request may take less a little, for SQLite does not queue
/// writers in order.
const SAFE_WRITES: [&str; 3] =
    ["PRAGMA busy_timeout = 20000", "PRAGMA foreign_keys = ON", "PRAGMA synchronous = FULL"];

/// One connection. Each request opens its own: a transaction belongs to it, and instances are shared by
/// requests that run at once.
pub struct Db {
    connection: backend::Connection,
    /// [`SAFE_WRITES`] hold. Readers need none of them, and most requests only read.
    safe: AtomicBool,
}

impl Database {
    /// Opens a connection. Commits on it are durable, foreign keys hold, and it is patient with other writers.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] when the host refuses or fails.
    pub async fn open(&self) -> Result<Db, StoreError> {
        Ok(Db { connection: self.connect().await?, safe: AtomicBool::new(false) })
    }
}

impl Db {
    /// Runs one statement and returns its rows.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] when the statement fails.
    pub async fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        if !sql.starts_with("SELECT") && !self.safe.swap(true, Ordering::Relaxed) {
            for pragma in SAFE_WRITES {
                self.connection.query(pragma, &[]).await?;
            }
        }
        // To SQLite `$1` is a name, numbered by where it first appears; `?1` is what others mean by `$1`.
        self.connection.query(&sql.replace('$', "?"), params).await
    }

    /// Runs one statement that returns at most one row.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] when the statement fails.
    pub async fn query_one(&self, sql: &str, params: &[Value]) -> Result<Option<Row>, StoreError> {
        Ok(self.query(sql, params).await?.into_iter().next())
    }

    /// Runs one statement that changes rows. How many is told by `RETURNING` and [`Db::query`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] when the statement fails.
    pub async fn execute(&self, sql: &str, params: &[Value]) -> Result<(), StoreError> {
        self.query(sql, params).await.map(drop)
    }

    /// Begins a transaction that may write. Dropped before [`Transaction::commit`], it is rolled back: the
    /// connection closes with it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] when other writers do not let it in within twenty seconds.
    pub async fn begin(self) -> Result<Transaction, StoreError> {
        self.execute("BEGIN IMMEDIATE", &[]).await?;
        Ok(Transaction { db: self })
    }
}

/// A transaction; a [`Db`] in every other respect.
pub struct Transaction {
    db: Db,
}

impl Transaction {
    /// Makes the changes durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`]: nothing of the transaction happened.
    pub async fn commit(self) -> Result<(), StoreError> {
        self.db.execute("COMMIT", &[]).await
    }
}

impl Deref for Transaction {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}
