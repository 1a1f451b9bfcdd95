//! `spin:postgres`.

use std::sync::Arc;

use send_wrapper::SendWrapper;
use spin_sdk::pg::{self, DbValue, ParameterValue};

use crate::{Row, StoreError, Value};

/// Components have one thread, so what the bindings return may be called `Send`, as routers want it.
pub(crate) struct Connection(Arc<SendWrapper<pg::Connection>>);

impl Connection {
    pub(super) async fn open(url: &str) -> Result<Self, StoreError> {
        let opened = SendWrapper::new(pg::Connection::open(url)).await;
        opened
            .map(|connection| Self(Arc::new(SendWrapper::new(connection))))
            .map_err(|error| StoreError::database("open", error))
    }

    pub(super) async fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let params: Vec<_> = params.iter().map(into_spin).collect();
        // The raw rows: those of the SDK are looked into by the name of a column only.
        let rows = SendWrapper::new(async {
            let (_, mut rows, done) = self.0.query(sql, params).await?.into_inner();
            let mut all = Vec::new();
            while let Some(row) = rows.next().await {
                all.push(row);
            }
            done.await?;
            Ok::<_, pg::Error>(all)
        });
        let rows = rows.await.map_err(|error| StoreError::database(sql, error))?;
        super::rows(rows, |values| values, from_spin)
    }

    /// Runs a statement whose rows, if any, are of types that do not matter.
    pub(super) async fn run(&self, sql: &str) -> Result<(), StoreError> {
        let done = SendWrapper::new(self.0.execute(sql, Vec::new())).await;
        done.map(drop).map_err(|error| StoreError::database(sql, error))
    }

    /// Rolls back by and by. Spin would lend the connection to others with its transaction still open.
    pub(super) fn roll_back(&self) {
        let connection = Arc::clone(&self.0);
        spin_sdk::wasip3::spawn(async move {
            // Where that fails the connection is lost, and so is its transaction.
            let _ = connection.execute("ROLLBACK", Vec::new()).await;
        });
    }
}

fn into_spin(value: &Value) -> ParameterValue {
    match value {
        Value::Null => ParameterValue::DbNull,
        Value::Integer(number) => ParameterValue::Int64(*number),
        // The one character that PostgreSQL has not. Replaced it finds nothing, as it should.
        Value::Text(text) => ParameterValue::Str(text.replace('\0', "\u{fffd}")),
    }
}

fn from_spin(value: DbValue) -> Option<Value> {
    match value {
        DbValue::DbNull => Some(Value::Null),
        DbValue::Boolean(value) => Some(Value::Integer(value.into())),
        DbValue::Int16(number) => Some(Value::Integer(number.into())),
        DbValue::Int32(number) => Some(Value::Integer(number.into())),
        DbValue::Int64(number) => Some(Value::Integer(number)),
        DbValue::Str(text) => Some(Value::Text(text)),
        _ => None,
    }
}
