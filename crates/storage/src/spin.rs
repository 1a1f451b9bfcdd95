//! `Db` over `spin:sqlite` or `spin:postgres`.

mod postgres;
mod sqlite;

use std::sync::OnceLock;

use send_wrapper::SendWrapper;
use spin_sdk::variables;

use crate::dialect::Dialect;
use crate::{Row, StoreError, Value};

/// Where PostgreSQL is. A component that is not told, or told nothing, uses SQLite.
const URL_VARIABLE: &str = "database_url";

/// The database that the stanza grants: the one of the variable `database_url`, else SQLite's `default`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Database;

/// A connection to either.
pub(crate) enum Connection {
    Sqlite(sqlite::Connection),
    Postgres(postgres::Connection),
}

impl Database {
    pub(crate) async fn connect(&self) -> Result<Connection, StoreError> {
        Ok(match url().await? {
            "" => Connection::Sqlite(sqlite::Connection::open()?),
            url => Connection::Postgres(postgres::Connection::open(url).await?),
        })
    }
}

/// The variable's value: it is the same for as long as the instance lives.
async fn url() -> Result<&'static str, StoreError> {
    static URL: OnceLock<String> = OnceLock::new();
    if let Some(url) = URL.get() {
        return Ok(url);
    }
    let url = match SendWrapper::new(variables::get(URL_VARIABLE)).await {
        Ok(url) => url,
        Err(variables::Error::Undefined(_)) => String::new(),
        Err(error) => return Err(StoreError::database("open", error)),
    };
    Ok(URL.get_or_init(|| url))
}

impl Connection {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    pub(crate) async fn query(&self, sql: &str, params: &[Value]) -> Result<Vec<Row>, StoreError> {
        match self {
            Self::Sqlite(connection) => connection.query(sql, params).await,
            Self::Postgres(connection) => connection.query(sql, params).await,
        }
    }

    pub(crate) async fn run(&self, sql: &str) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(connection) => connection.query(sql, &[]).await.map(drop),
            Self::Postgres(connection) => connection.run(sql).await,
        }
    }

    /// The connection is dropped in a transaction. One of SQLite closes, which rolls back.
    pub(crate) fn abandon(&self) {
        if let Self::Postgres(connection) = self {
            connection.roll_back();
        }
    }
}

/// Rows whose values are of the common subset.
fn rows<R, V>(
    rows: impl IntoIterator<Item = R>,
    values: impl Fn(R) -> Vec<V>,
    read: impl Fn(V) -> Option<Value>,
) -> Result<Vec<Row>, StoreError> {
    rows.into_iter()
        .map(|row| values(row).into_iter().map(&read).collect::<Option<_>>().map(Row))
        .collect::<Option<_>>()
        .ok_or(StoreError::Corrupt { column: 0, wanted: "null, integer or text" })
}
