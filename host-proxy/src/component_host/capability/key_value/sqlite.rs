//! Stores as rows of an SQLite file.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::{OpenFlags, OptionalExtension, params};

use super::Backend;
use crate::component_host::capability::bindings::spin::key_value::key_value::Error;

const GET: &str = "SELECT value FROM entries WHERE store = ? AND key = ?";

/// A file of stores.
pub(crate) struct Database {
    connection: Mutex<rusqlite::Connection>,
    /// For single values: in write-ahead mode a reader waits for nobody, and reading one takes less than
    /// handing it to another thread. There is none of a database in memory.
    reader: Option<Mutex<rusqlite::Connection>>,
}

impl Database {
    /// Opens or creates the file; without one the stores end with the process.
    pub(crate) fn open(path: Option<&Path>) -> rusqlite::Result<Self> {
        let connection = match path {
            Some(path) => rusqlite::Connection::open(path)?,
            None => rusqlite::Connection::open_in_memory()?,
        };
        // A store is a cache or a counter, not a ledger: losing the last writes in a power cut is allowed.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = NORMAL;
             CREATE TABLE IF NOT EXISTS entries (
                 store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
                 PRIMARY KEY (store, key)
             ) WITHOUT ROWID;",
        )?;
        let reader = path.map(|path| -> rusqlite::Result<_> {
            let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let reader = rusqlite::Connection::open_with_flags(path, flags)?;
            reader.busy_timeout(Duration::ZERO)?;
            Ok(Mutex::new(reader))
        });
        Ok(Self { connection: Mutex::new(connection), reader: reader.transpose()? })
    }

    /// Reads a value on this thread; `None` when it must be read on a blocking one.
    fn peek(&self, store: &str, key: &str) -> Option<Option<Vec<u8>>> {
        let reader = self.reader.as_ref()?.try_lock().ok()?;
        let mut statement = reader.prepare_cached(GET).ok()?;
        statement.query_row([store, key], |row| row.get(0)).optional().ok()
    }

    fn get(&self, store: &str, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        self.run(GET, |statement| statement.query_row([store, key], |row| row.get(0)).optional())
    }

    fn exists(&self, store: &str, key: &str) -> rusqlite::Result<bool> {
        self.run("SELECT 1 FROM entries WHERE store = ? AND key = ?", |statement| {
            statement.exists([store, key])
        })
    }

    fn set(&self, store: &str, key: &str, value: &[u8]) -> rusqlite::Result<()> {
        let sql = "INSERT INTO entries (store, key, value) VALUES (?, ?, ?)
                   ON CONFLICT (store, key) DO UPDATE SET value = excluded.value";
        self.run(sql, |statement| statement.execute(params![store, key, value]).map(drop))
    }

    fn delete(&self, store: &str, key: &str) -> rusqlite::Result<()> {
        self.run("DELETE FROM entries WHERE store = ? AND key = ?", |statement| {
            statement.execute([store, key]).map(drop)
        })
    }

    fn keys(&self, store: &str) -> rusqlite::Result<Vec<String>> {
        self.run("SELECT key FROM entries WHERE store = ? ORDER BY key", |statement| {
            statement.query_map([store], |row| row.get(0))?.collect()
        })
    }

    /// Sets a value if it is still the `old` one. Returns whether it was.
    fn swap(
        &self,
        store: &str,
        key: &str,
        old: Option<&[u8]>,
        new: &[u8],
    ) -> rusqlite::Result<bool> {
        let changed = match old {
            None => {
                let sql = "INSERT INTO entries (store, key, value) VALUES (?, ?, ?)
                           ON CONFLICT (store, key) DO NOTHING";
                self.run(sql, |statement| statement.execute(params![store, key, new]))
            }
            Some(old) => {
                let sql = "UPDATE entries SET value = ? WHERE store = ? AND key = ? AND value = ?";
                self.run(sql, |statement| statement.execute(params![new, store, key, old]))
            }
        };
        changed.map(|rows| rows == 1)
    }

    fn run<R>(
        &self,
        sql: &str,
        body: impl FnOnce(&mut rusqlite::Statement<'_>) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<R> {
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        body(&mut *connection.prepare_cached(sql)?)
    }
}

/// One store of a file.
pub(crate) struct SqliteStore {
    pub(crate) database: Arc<Database>,
    pub(crate) label: String,
}

impl SqliteStore {
    async fn run<R: Send + 'static>(
        &self,
        body: impl FnOnce(&Database, &str) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, Error> {
        let (database, label) = (Arc::clone(&self.database), self.label.clone());
        match tokio::task::spawn_blocking(move || body(&database, &label)).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(Error::Other(error.to_string())),
            Err(error) => Err(Error::Other(error.to_string())),
        }
    }
}

#[async_trait]
impl Backend for SqliteStore {
    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        if let Some(value) = self.database.peek(&self.label, &key) {
            return Ok(value);
        }
        self.run(move |database, label| database.get(label, &key)).await
    }

    async fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        self.run(move |database, label| database.set(label, &key, &value)).await
    }

    async fn delete(&self, key: String) -> Result<(), Error> {
        self.run(move |database, label| database.delete(label, &key)).await
    }

    async fn exists(&self, key: String) -> Result<bool, Error> {
        self.run(move |database, label| database.exists(label, &key)).await
    }

    async fn keys(&self) -> Result<Vec<String>, Error> {
        self.run(Database::keys).await
    }

    async fn swap(&self, key: String, old: Option<Vec<u8>>, new: Vec<u8>) -> Result<bool, Error> {
        self.run(move |database, label| database.swap(label, &key, old.as_deref(), &new)).await
    }

    /// The number is eight bytes, the lowest first.
    async fn increment(&self, key: String, delta: i64) -> Result<i64, Error> {
        loop {
            let old = self.get(key.clone()).await?;
            let number = match &old {
                None => 0,
                Some(bytes) => bytes
                    .as_slice()
                    .try_into()
                    .map(i64::from_le_bytes)
                    .map_err(|_| Error::Other("the value is not a number".into()))?,
            };
            let sum = number.checked_add(delta);
            let sum = sum.ok_or_else(|| Error::Other("the number would be too large".into()))?;
            if self.swap(key.clone(), old, sum.to_le_bytes().to_vec()).await? {
                return Ok(sum);
            }
        }
    }
}
