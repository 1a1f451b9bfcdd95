//! `spin:sqlite`.

use send_wrapper::SendWrapper;
use spin_sdk::sqlite;

use crate::{Row, StoreError, Value};

/// Components have one thread, so what the bindings return may be called `Send`, as routers want it.
pub(crate) struct Connection(SendWrapper<sqlite::Connection>);

impl Connection {
    /// The database that the manifest grants under the label `default`.
    pub(super) async fn open() -> Result<Self, StoreError> {
        let opened = SendWrapper::new(sqlite::Connection::open_default()).await;
        opened
            .map(|connection| Self(SendWrapper::new(connection)))
            .map_err(|error| StoreError::database("open", error))
    }

    pub(super) async fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let params: Vec<_> = params.iter().cloned().map(into_spin).collect();
        let rows =
            SendWrapper::new(async { self.0.execute(sql, params).await?.collect().await }).await;
        let rows = rows.map_err(|error| StoreError::database(sql, error))?;
        super::rows(rows, |row| row.values, from_spin)
    }
}

fn into_spin(value: Value) -> sqlite::Value {
    match value {
        Value::Null => sqlite::Value::Null,
        Value::Integer(number) => sqlite::Value::Integer(number),
        Value::Text(text) => sqlite::Value::Text(text),
    }
}

fn from_spin(value: sqlite::Value) -> Option<Value> {
    match value {
        sqlite::Value::Null => Some(Value::Null),
        sqlite::Value::Integer(number) => Some(Value::Integer(number)),
        sqlite::Value::Text(text) => Some(Value::Text(text)),
        sqlite::Value::Real(_) | sqlite::Value::Blob(_) => None,
    }
}
