//! `spin:key-value`: stores by label, each in an SQLite file or in Redis. Components that are granted the same
//! label share its store.

mod redis;
mod sqlite;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use wasmtime::Result;
use wasmtime::component::{
    Accessor, FutureReader, HasData, Linker, Resource, ResourceTable, StreamReader,
};

pub(crate) use self::redis::RedisStore;
pub(crate) use self::sqlite::{Database, SqliteStore};
use super::bindings::spin::key_value::key_value::{
    self, Error, Host, HostStore, HostStoreWithStore,
};

/// Where the entries of one store are; none of this blocks.
#[async_trait]
pub(crate) trait Backend: Send + Sync {
    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error>;
    async fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error>;
    async fn delete(&self, key: String) -> Result<(), Error>;
    async fn exists(&self, key: String) -> Result<bool, Error>;
    /// Every key, in order.
    async fn keys(&self) -> Result<Vec<String>, Error>;
    /// Sets a value if it is still the `old` one. Returns whether it was.
    async fn swap(&self, key: String, old: Option<Vec<u8>>, new: Vec<u8>) -> Result<bool, Error>;
    /// Adds to a number, kept as Spin keeps it in such a store; one that is absent is 0.
    async fn increment(&self, key: String, delta: i64) -> Result<i64, Error>;
}

/// The stores by label.
pub(crate) type Stores = BTreeMap<String, Arc<dyn Backend>>;

/// What one component may open.
#[derive(Clone)]
pub(crate) struct Access {
    pub(crate) stores: Arc<Stores>,
    pub(crate) granted: Arc<BTreeSet<String>>,
}

/// An open store.
#[derive(Clone)]
#[expect(unreachable_pub, reason = "the generated bindings re-export it as `pub`")]
pub struct Store(pub(super) Arc<dyn Backend>);

impl View<'_> {
    /// Opens a store that the stanza grants.
    pub(super) fn open_store(&self, label: &str) -> Result<Store, Error> {
        if !self.access.granted.contains(label) {
            return Err(Error::AccessDenied);
        }
        self.access.stores.get(label).cloned().map(Store).ok_or(Error::NoSuchStore)
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

fn store<T>(accessor: &Accessor<T, KeyValue>, store: &Resource<Store>) -> Result<Arc<dyn Backend>> {
    accessor.with(|mut access| Ok(Arc::clone(&access.get().table.get(store)?.0)))
}

impl<T: Send> HostStoreWithStore<T> for KeyValue {
    async fn open(
        accessor: &Accessor<T, Self>,
        label: String,
    ) -> Result<Result<Resource<Store>, Error>> {
        accessor.with(|mut access| {
            let view = access.get();
            match view.open_store(&label) {
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
        let (keys, result) = match store(accessor, &resource)?.keys().await {
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
