//! `spin:sqlite`.
//!
//! A query is made with a call that returns all its rows: for the few that ours have, a stream and a future
//! would cost more than the query. What may wait for other writers does not hold up the instance.

use send_wrapper::SendWrapper;
use spin_sdk::sqlite::wit::sqlite::{self, Connection as Handle};

use crate::{Row, StoreError, Value};

/// Components have one thread, so what the bindings return may be called `Send`, as routers want it.
pub(crate) struct Connection(SendWrapper<Handle>);

impl Connection {
    /// The database that the manifest grants under the label `default`.
    pub(super) fn open() -> Result<Self, StoreError> {
        Handle::open("default")
            .map(|handle| Self(SendWrapper::new(handle)))
            .map_err(|error| StoreError::database("open", error))
    }

    pub(super) async fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let params: Vec<_> = params.iter().cloned().map(into_spin).collect();
        let rows = if sql.starts_with("SELECT") {
            self.0.execute(sql, &params).map(|result| result.rows)
        } else {
            SendWrapper::new(self.stream(sql, params)).await
        };
        let rows = rows.map_err(|error| StoreError::database(sql, error))?;
        super::rows(rows, |row| row.values, from_spin)
    }

    async fn stream(
        &self,
        sql: &str,
        params: Vec<sqlite::Value>,
    ) -> Result<Vec<sqlite::RowResult>, sqlite::Error> {
        let (_, rows, done) = self.0.execute_async(sql.to_owned(), params).await?;
        let rows = rows.collect().await;
        done.await?;
        Ok(rows)
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
