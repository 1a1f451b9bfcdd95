//! `Db` over an in-memory SQLite of this process, for tests.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::types::ValueRef;
use rusqlite::{Connection as Sqlite, OpenFlags, params_from_iter};
use uuid::Uuid;

use crate::dialect::Dialect;
use crate::{Row, StoreError, Value};

/// An empty database that lives as long as this value and its clones.
#[derive(Clone)]
pub struct Database {
    uri: String,
    /// SQLite drops a shared in-memory database with its last connection.
    _keep: Arc<Mutex<Sqlite>>,
}

pub(crate) struct Connection(Mutex<Sqlite>);

impl Database {
    /// A new, empty database.
    ///
    /// # Errors
    ///
    /// [`StoreError::Database`] when SQLite cannot make one.
    pub fn in_memory() -> Result<Self, StoreError> {
        let uri = format!("file:{}?mode=memory&cache=shared", Uuid::new_v4());
        let keep = open(&uri)?;
        Ok(Self { uri, _keep: Arc::new(Mutex::new(keep)) })
    }

    #[expect(
        clippy::unused_async,
        reason = "the same signature as in a component, where opening waits"
    )]
    pub(crate) async fn connect(&self) -> Result<Connection, StoreError> {
        open(&self.uri).map(|connection| Connection(Mutex::new(connection)))
    }
}

fn open(uri: &str) -> Result<Sqlite, StoreError> {
    let failed = |error| StoreError::database("open", error);
    let connection =
        Sqlite::open_with_flags(uri, OpenFlags::default() | OpenFlags::SQLITE_OPEN_URI)
            .map_err(failed)?;
    // As a host leaves it; this build of SQLite has them on.
    connection.pragma_update(None, "foreign_keys", false).map_err(failed)?;
    Ok(connection)
}

impl Connection {
    #[expect(
        clippy::unused_self,
        reason = "the same signature as in a component, where it depends"
    )]
    pub(crate) fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    pub(crate) async fn run(&self, sql: &str) -> Result<(), StoreError> {
        self.query(sql, &[]).await.map(drop)
    }

    /// A connection that closes rolls back.
    #[expect(
        clippy::unused_self,
        reason = "the same signature as in a component, where it is told"
    )]
    pub(crate) fn abandon(&self) {}

    #[expect(
        clippy::unused_async,
        reason = "the same signature as in a component, where a query waits"
    )]
    pub(crate) async fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        let connection = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows(&connection, sql, params).map_err(|error| StoreError::database(sql, error))
    }
}

fn rows(connection: &Sqlite, sql: &str, params: &[Value]) -> rusqlite::Result<Vec<Row>> {
    let mut statement = connection.prepare(sql)?;
    let columns = statement.column_count();
    let mut rows = statement.query(params_from_iter(params.iter().map(into_sqlite)))?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let values = (0..columns).map(|column| row.get_ref(column).map(from_sqlite));
        found.push(Row(values.collect::<rusqlite::Result<_>>()?));
    }
    Ok(found)
}

fn into_sqlite(value: &Value) -> rusqlite::types::Value {
    match value {
        Value::Null => rusqlite::types::Value::Null,
        Value::Integer(number) => rusqlite::types::Value::Integer(*number),
        Value::Text(text) => rusqlite::types::Value::Text(text.clone()),
    }
}

fn from_sqlite(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Integer(number) => Value::Integer(number),
        ValueRef::Text(text) => Value::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => Value::Null,
    }
}
