//! SQL for components: one [`Db`], its migrations, the audit log.
//!
//! In a component a `Db` is a connection that the host opened: `spin:postgres` where the variable
//! `database_url` says so, else `spin:sqlite`. Natively it is an in-memory SQLite, so that handlers are tested
//! over the statements that they really run.
//!
//! Statements keep to what SQLite ≥ 3.40 and PostgreSQL ≥ 14 both take: `$1` parameters, `RETURNING`,
//! `ON CONFLICT`, BIGINT Unix milliseconds, JSON as text. Values are parameters, so `$` is nothing else.

pub mod audit;
mod dialect;
mod error;
mod migrate;
mod row;

#[cfg(not(target_family = "wasm"))]
mod native;
#[cfg(target_family = "wasm")]
mod spin;

#[cfg(not(target_family = "wasm"))]
use native as backend;
#[cfg(target_family = "wasm")]
use spin as backend;

pub use backend::Database;
pub use error::StoreError;
pub use migrate::{Migrated, migrate, migrate_while, newest_version};
pub use row::{FromValue, Row, Value};

use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};

/// One connection. Each request opens its own: a transaction belongs to it, and instances are shared by
/// requests that run at once.
pub struct Db {
    connection: backend::Connection,
    /// [`dialect::Dialect::before_writes`] was said. Readers need none of it, and most requests only read.
    safe: AtomicBool,
    /// A statement failed. PostgreSQL then takes a `COMMIT` without a word, and rolls back.
    failed: AtomicBool,
}

impl Database {
    /// Opens a connection. Commits on it are durable, foreign keys hold, and it is patient with other writers.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] when the host refuses or fails.
    pub async fn open(&self) -> Result<Db, StoreError> {
        let connection = self.connect().await?;
        Ok(Db { connection, safe: AtomicBool::new(false), failed: AtomicBool::new(false) })
    }
}

impl Db {
    /// Runs one statement and returns its rows.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] when the statement fails.
    pub async fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        if !sql.starts_with("SELECT") {
            self.make_safe().await?;
        }
        let statement = self.connection.dialect().statement(sql);
        let rows = self.connection.query(&statement, params).await;
        if rows.is_err() {
            self.failed.store(true, Ordering::Relaxed);
        }
        rows
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

    /// Begins a transaction that may write. Dropped before [`Transaction::commit`], it is rolled back.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] when other writers do not let it in within twenty seconds.
    pub async fn begin(self) -> Result<Transaction, StoreError> {
        self.make_safe().await?;
        let tx = Transaction { db: self, open: true };
        tx.run(tx.connection.dialect().begin()).await?;
        Ok(tx)
    }

    async fn make_safe(&self) -> Result<(), StoreError> {
        if !self.safe.load(Ordering::Relaxed) {
            self.run(self.connection.dialect().before_writes()).await?;
            self.safe.store(true, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Runs statements that return nothing of interest.
    async fn run(&self, statements: &[&str]) -> Result<(), StoreError> {
        for sql in statements {
            self.connection.run(sql).await?;
        }
        Ok(())
    }
}

/// A transaction; a [`Db`] in every other respect.
pub struct Transaction {
    db: Db,
    open: bool,
}

impl Transaction {
    /// Makes the changes durable.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`]: nothing of the transaction happened, unless the connection was lost before
    /// the answer came. Always so after a statement of it failed.
    pub async fn commit(mut self) -> Result<(), StoreError> {
        if self.failed.load(Ordering::Relaxed) {
            return Err(StoreError::database("COMMIT", "a statement before it failed"));
        }
        self.run(&["COMMIT"]).await?;
        self.open = false;
        Ok(())
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if self.open {
            self.db.connection.abandon();
        }
    }
}

impl Deref for Transaction {
    type Target = Db;

    fn deref(&self) -> &Db {
        &self.db
    }
}
