//! `wasi:keyvalue` over the stores of `spin:key-value`, for components that import it.

use std::sync::Arc;

use wasmtime::Result;
use wasmtime::component::{Linker, Resource};

use super::bindings::spin::key_value::key_value::Error as SpinError;
use super::bindings::wasi::keyvalue::atomics::{self, CasError};
use super::bindings::wasi::keyvalue::batch;
use super::bindings::wasi::keyvalue::store::{self, Error, KeyResponse};
use super::key_value::{Backend, KeyValue, Store, View};

/// A value as it was seen, which may be replaced if it is still the same.
#[expect(unreachable_pub, reason = "the generated bindings re-export it as `pub`")]
pub struct Cas {
    store: Arc<dyn Backend>,
    key: String,
    seen: Option<Vec<u8>>,
}

pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    state: fn(&mut T) -> View<'_>,
) -> Result<()> {
    store::add_to_linker::<T, KeyValue>(linker, state)?;
    batch::add_to_linker::<T, KeyValue>(linker, state)?;
    atomics::add_to_linker::<T, KeyValue>(linker, state)
}

impl From<SpinError> for Error {
    fn from(error: SpinError) -> Self {
        match error {
            SpinError::NoSuchStore => Self::NoSuchStore,
            SpinError::AccessDenied => Self::AccessDenied,
            SpinError::StoreTableFull => Self::Other("too many stores are open".into()),
            SpinError::Other(text) => Self::Other(text),
        }
    }
}

impl View<'_> {
    fn bucket(&self, bucket: &Resource<Store>) -> Result<Arc<dyn Backend>> {
        Ok(Arc::clone(&self.table.get(bucket)?.0))
    }

    async fn cas(
        &mut self,
        store: Arc<dyn Backend>,
        key: String,
    ) -> Result<Result<Resource<Cas>, Error>> {
        match store.get(key.clone()).await {
            Ok(seen) => Ok(Ok(self.table.push(Cas { store, key, seen })?)),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl store::Host for View<'_> {
    async fn open(&mut self, identifier: String) -> Result<Result<Resource<Store>, Error>> {
        match self.open_store(&identifier) {
            Ok(store) => Ok(Ok(self.table.push(store)?)),
            Err(error) => Ok(Err(error.into())),
        }
    }
}

impl store::HostBucket for View<'_> {
    async fn get(
        &mut self,
        bucket: Resource<Store>,
        key: String,
    ) -> Result<Result<Option<Vec<u8>>, Error>> {
        Ok(self.bucket(&bucket)?.get(key).await.map_err(Error::from))
    }

    async fn set(
        &mut self,
        bucket: Resource<Store>,
        key: String,
        value: Vec<u8>,
    ) -> Result<Result<(), Error>> {
        Ok(self.bucket(&bucket)?.set(key, value).await.map_err(Error::from))
    }

    async fn delete(&mut self, bucket: Resource<Store>, key: String) -> Result<Result<(), Error>> {
        Ok(self.bucket(&bucket)?.delete(key).await.map_err(Error::from))
    }

    async fn exists(
        &mut self,
        bucket: Resource<Store>,
        key: String,
    ) -> Result<Result<bool, Error>> {
        Ok(self.bucket(&bucket)?.exists(key).await.map_err(Error::from))
    }

    /// Answers all keys at once, so a cursor is never given and never right.
    async fn list_keys(
        &mut self,
        bucket: Resource<Store>,
        cursor: Option<String>,
    ) -> Result<Result<KeyResponse, Error>> {
        if cursor.is_some() {
            return Ok(Err(Error::Other("there is no such cursor".into())));
        }
        let keys = self.bucket(&bucket)?.keys().await;
        Ok(keys.map(|keys| KeyResponse { keys, cursor: None }).map_err(Error::from))
    }

    async fn drop(&mut self, bucket: Resource<Store>) -> Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl batch::Host for View<'_> {
    async fn get_many(
        &mut self,
        bucket: Resource<Store>,
        keys: Vec<String>,
    ) -> Result<Result<Vec<(String, Option<Vec<u8>>)>, Error>> {
        let store = self.bucket(&bucket)?;
        let mut values = Vec::with_capacity(keys.len());
        for key in keys {
            match store.get(key.clone()).await {
                Ok(value) => values.push((key, value)),
                Err(error) => return Ok(Err(error.into())),
            }
        }
        Ok(Ok(values))
    }

    async fn set_many(
        &mut self,
        bucket: Resource<Store>,
        key_values: Vec<(String, Vec<u8>)>,
    ) -> Result<Result<(), Error>> {
        let store = self.bucket(&bucket)?;
        for (key, value) in key_values {
            if let Err(error) = store.set(key, value).await {
                return Ok(Err(error.into()));
            }
        }
        Ok(Ok(()))
    }

    async fn delete_many(
        &mut self,
        bucket: Resource<Store>,
        keys: Vec<String>,
    ) -> Result<Result<(), Error>> {
        let store = self.bucket(&bucket)?;
        for key in keys {
            if let Err(error) = store.delete(key).await {
                return Ok(Err(error.into()));
            }
        }
        Ok(Ok(()))
    }
}

impl atomics::Host for View<'_> {
    async fn increment(
        &mut self,
        bucket: Resource<Store>,
        key: String,
        delta: i64,
    ) -> Result<Result<i64, Error>> {
        Ok(self.bucket(&bucket)?.increment(key, delta).await.map_err(Error::from))
    }

    async fn swap(&mut self, cas: Resource<Cas>, value: Vec<u8>) -> Result<Result<(), CasError>> {
        let Cas { store, key, seen } = self.table.delete(cas)?;
        match store.swap(key.clone(), seen, value).await {
            Ok(true) => Ok(Ok(())),
            Ok(false) => Ok(Err(match self.cas(store, key).await? {
                Ok(again) => CasError::CasFailed(again),
                Err(error) => CasError::StoreError(error),
            })),
            Err(error) => Ok(Err(CasError::StoreError(error.into()))),
        }
    }
}

impl atomics::HostCas for View<'_> {
    async fn new(
        &mut self,
        bucket: Resource<Store>,
        key: String,
    ) -> Result<Result<Resource<Cas>, Error>> {
        let store = self.bucket(&bucket)?;
        self.cas(store, key).await
    }

    async fn current(&mut self, cas: Resource<Cas>) -> Result<Result<Option<Vec<u8>>, Error>> {
        Ok(Ok(self.table.get(&cas)?.seen.clone()))
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> Result<()> {
        self.table.delete(cas)?;
        Ok(())
    }
}
