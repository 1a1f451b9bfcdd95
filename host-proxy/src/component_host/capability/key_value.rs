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

/// What may be done with an open store; none of it blocks.
impl Store {
    pub(super) async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        self.run(move |database, label| database.get(label, &key)).await
    }

    pub(super) async fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        self.run(move |database, label| database.set(label, &key, &value)).await
    }

    pub(super) async fn delete(&self, key: String) -> Result<(), Error> {
        self.run(move |database, label| database.delete(label, &key)).await
    }

    pub(super) async fn exists(&self, key: String) -> Result<bool, Error> {
        self.run(move |database, label| database.exists(label, &key)).await
    }

    pub(super) async fn keys(&self) -> Result<Vec<String>, Error> {
        self.run(Database::keys).await
    }

    /// Sets a value if it is still the `old` one. Returns whether it was.
    pub(super) async fn swap(
        &self,
        key: String,
        old: Option<Vec<u8>>,
        new: Vec<u8>,
    ) -> Result<bool, Error> {
        self.run(move |database, label| database.swap(label, &key, old.as_deref(), &new)).await
    }

    /// Adds to a number of eight bytes, the lowest first, as Spin keeps it; one that is absent is 0.
    pub(super) async fn increment(&self, key: String, delta: i64) -> Result<i64, Error> {
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

    async fn run<R: Send + 'static>(
        &self,
        body: impl FnOnce(&Database, &str) -> rusqlite::Result<R> + Send + 'static,
    ) -> Result<R, Error> {
        let Self { database, label } = self.clone();
        let done = tokio::task::spawn_blocking(move || body(&database, &label)).await;
        match done {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(error)) => Err(Error::Other(error.to_string())),
            Err(error) => Err(Error::Other(error.to_string())),
        }
    }
}

impl View<'_> {
    /// Opens a store that the stanza grants.
    pub(super) fn open_store(&self, label: String) -> Result<Store, Error> {
        if !self.access.granted.contains(&label) {
            return Err(Error::AccessDenied);
        }
        Ok(Store { database: Arc::clone(&self.access.database), label })
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
            match view.open_store(label) {
                Ok(store) => Ok(Ok(view.table.push(store)?)),
                Err(error) => Ok(Err(error)),
            }
        })
    }

    async fn get(
        accessor: &Accessor<T, Self>,
        resource: Resource<Store>,
        key: String,
    ) -> Result<Result<Option<Vec<u8>>, Error>> {
        Ok(store(accessor, &resource)?.get(key).await)
    }

    async fn set(
        accessor: &Accessor<T, Self>,
        resource: Resource<Store>,
        key: String,
        value: Vec<u8>,
    ) -> Result<Result<(), Error>> {
        Ok(store(accessor, &resource)?.set(key, value).await)
    }

    async fn delete(
        accessor: &Accessor<T, Self>,
        resource: Resource<Store>,
        key: String,
    ) -> Result<Result<(), Error>> {
        Ok(store(accessor, &resource)?.delete(key).await)
    }

    async fn exists(
        accessor: &Accessor<T, Self>,
        resource: Resource<Store>,
        key: String,
    ) -> Result<Result<bool, Error>> {
        Ok(store(accessor, &resource)?.exists(key).await)
    }

    async fn get_keys(
        accessor: &Accessor<T, Self>,
        resource: Resource<Store>,
    ) -> Result<(StreamReader<String>, FutureReader<Result<(), Error>>)> {
        let keys = store(accessor, &resource)?.keys().await;
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
