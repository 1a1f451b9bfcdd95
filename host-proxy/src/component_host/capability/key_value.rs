//! `spin:key-value`: every store is a set of rows in one SQLite file.
//!
//! Spin knows only the store `default` unless a runtime configuration defines more. Here a label is a
//! store as soon as a stanza grants it, and components that are granted the same label share it.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{OptionalExtension, params};
use wasmtime::Result;
use wasmtime::component::{
    Accessor, FutureReader, HasData, Linker, Resource, ResourceTable, StreamReader,
};

use super::bindings::spin::key_value::key_value::{
    self, Error, Host, HostStore, HostStoreWithStore,
};

/// The file behind all stores.
pub(crate) struct Database(Mutex<rusqlite::Connection>);

impl Database {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path) -> rusqlite::Result<Self> {
        let connection = rusqlite::Connection::open(path)?;
        // A store is a cache or a counter, not a ledger: losing the last writes in a power cut is allowed.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL;
             PRAGMA synchronous = NORMAL;
             CREATE TABLE IF NOT EXISTS entries (
                 store TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL,
                 PRIMARY KEY (store, key)
             ) WITHOUT ROWID;",
        )?;
        Ok(Self(Mutex::new(connection)))
    }

    fn get(&self, store: &str, key: &str) -> rusqlite::Result<Option<Vec<u8>>> {
        self.run("SELECT value FROM entries WHERE store = ? AND key = ?", |statement| {
            statement.query_row([store, key], |row| row.get(0)).optional()
        })
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

    fn run<R>(
        &self,
        sql: &str,
        body: impl FnOnce(&mut rusqlite::Statement<'_>) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<R> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        body(&mut *connection.prepare_cached(sql)?)
    }
}

/// What one component may open.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) database: Arc<Database>,
    pub(crate) granted: Arc<BTreeSet<String>>,
}

/// An open store.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it as `pub`")]
pub struct Store {
    database: Arc<Database>,
    label: String,
}

impl Store {
    async fn run<R: Send + 'static>(
        self,
        body: impl FnOnce(&Database, &str) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<Result<R, Error>> {
        let result = tokio::task::spawn_blocking(move || body(&self.database, &self.label)).await?;
        Ok(result.map_err(|error| Error::Other(error.to_string())))
    }
}

/// View of a guest's state that this capability works on.
pub(crate) struct View<'a> {
    pub(crate) access: &'a Access,
    pub(crate) table: &'a mut ResourceTable,
}

pub(crate) struct KeyValue;

impl HasData for KeyValue {
    type Data<'a> = View<'a>;
}

pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> View<'_>,
) -> Result<()> {
    key_value::add_to_linker::<T, KeyValue>(linker, state)
}

impl Host for View<'_> {}

impl HostStore for View<'_> {
    async fn drop(&mut self, store: Resource<Store>) -> Result<()> {
        self.table.delete(store)?;
        Ok(())
    }
}

fn store<T>(accessor: &Accessor<T, KeyValue>, store: &Resource<Store>) -> Result<Store> {
    accessor.with(|mut access| Ok(access.get().table.get(store)?.clone()))
}

impl<T: Send> HostStoreWithStore<T> for KeyValue {
    async fn open(
        accessor: &Accessor<T, Self>,
        label: String,
    ) -> Result<Result<Resource<Store>, Error>> {
        accessor.with(|mut access| {
            let view = access.get();
            if !view.access.granted.contains(&label) {
                return Ok(Err(Error::AccessDenied));
            }
            let store = Store { database: Arc::clone(&view.access.database), label };
            Ok(Ok(view.table.push(store)?))
        })
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        resource: Resource<Store>,
        key: String,
    ) -> Result<Result<Option<Vec<u8>>, Error>> {
        store(accessor, &resource)?.run(move |database, label| database.get(label, &key)).await
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        resource: Resource<Store>,
        key: String,
        value: Vec<u8>,
    ) -> Result<Result<(), Error>> {
        let store = store(accessor, &resource)?;
        store.run(move |database, label| database.set(label, &key, &value)).await
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        resource: Resource<Store>,
        key: String,
    ) -> Result<Result<(), Error>> {
        store(accessor, &resource)?.run(move |database, label| database.delete(label, &key)).await
    }

    async fn exists(
        accessor: &Accessor<T, Self>,
        resource: Resource<Store>,
        key: String,
    ) -> Result<Result<bool, Error>> {
        store(accessor, &resource)?.run(move |database, label| database.exists(label, &key)).await
    }

    async fn get_keys(
        accessor: &Accessor<T, Self>,
        resource: Resource<Store>,
    ) -> Result<(StreamReader<String>, FutureReader<Result<(), Error>>)> {
        let keys = store(accessor, &resource)?.run(Database::keys).await?;
        let (keys, result) = match keys {
            Ok(keys) => (keys, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        accessor.with(|mut access| {
            let keys = StreamReader::new(&mut access, keys)?;
            let result = FutureReader::new(&mut access, async { wasmtime::error::Ok(result) })?;
            Ok((keys, result))
        })
    }
}
