//! The key-value stores that the manifest grants to this component.

use send_wrapper::SendWrapper;
use spin_sdk::key_value::Store;

/// The store did not answer, or refused.
#[derive(Debug, thiserror::Error)]
#[error("the key-value store failed: {0}")]
pub struct KeyValueError(String);

impl KeyValueError {
    fn new(error: impl ToString) -> Self {
        Self(error.to_string())
    }
}

/// One store.
pub struct KeyValue(SendWrapper<Store>);

impl KeyValue {
    /// Opens the store of that label.
    ///
    /// # Errors
    ///
    /// [`KeyValueError`] when the stanza does not grant it, or the host fails.
    pub async fn open(label: &str) -> Result<Self, KeyValueError> {
        let opened = SendWrapper::new(Store::open(label)).await;
        opened.map(|store| Self(SendWrapper::new(store))).map_err(KeyValueError::new)
    }

    /// The value of the key, if there is one.
    ///
    /// # Errors
    ///
    /// [`KeyValueError`] when the host fails.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        SendWrapper::new(self.0.get(key)).await.map_err(KeyValueError::new)
    }

    /// Sets the value of the key.
    ///
    /// # Errors
    ///
    /// [`KeyValueError`] when the host fails.
    pub async fn set(&self, key: &str, value: &[u8]) -> Result<(), KeyValueError> {
        SendWrapper::new(self.0.set(key, value)).await.map_err(KeyValueError::new)
    }

    /// Removes the key, if it is there.
    ///
    /// # Errors
    ///
    /// [`KeyValueError`] when the host fails.
    pub async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        SendWrapper::new(self.0.delete(key)).await.map_err(KeyValueError::new)
    }
}
