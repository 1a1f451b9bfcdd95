//! Looks at what a host would be started on, one thing at a time, for `zlh doctor`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deadpool_postgres::Object;
use time::OffsetDateTime;

use super::capability::bindings::spin::postgres::postgres::Error as PostgresError;
use super::capability::key_value::{Backend as _, RedisStore};
use super::capability::postgres;
use super::digest_list::DigestList;
use super::runtime_config::{KeyValueStore, RuntimeConfig};
use super::{
    AllowListError, AllowListOptions, ComponentHost, HostError, HostOptions, read_runtime_config,
};

/// What a runtime configuration names.
pub(crate) struct Configured {
    /// URLs of Redis by label of the key-value store.
    pub(crate) redis: Vec<(String, String)>,
    /// Labels of every store and database in it.
    pub(crate) labels: Vec<String>,
    /// Where the SQLite database `default` is, if not in the state folder.
    pub(crate) sqlite: Option<PathBuf>,
    /// Every file in it.
    pub(crate) files: Vec<PathBuf>,
}

/// Reads the runtime configuration. Blocks.
pub(crate) fn runtime_config(path: Option<&Path>) -> Result<Configured, HostError> {
    let config = read_runtime_config(path)?;
    let files = config.files();
    let RuntimeConfig { key_value_stores, sqlite_databases, .. } = config;
    let labels = key_value_stores.keys().chain(sqlite_databases.keys()).cloned().collect();
    let redis = key_value_stores.into_iter().filter_map(|(label, store)| match store {
        KeyValueStore::Redis(url) => Some((label, url)),
        KeyValueStore::Sqlite(_) => None,
    });
    Ok(Configured {
        redis: redis.collect(),
        labels,
        sqlite: sqlite_databases.get("default").cloned(),
        files,
    })
}

/// Loads components as a start would, on stores of their own below the state folder.
pub(crate) async fn load(options: HostOptions) -> Result<Arc<ComponentHost>, HostError> {
    ComponentHost::load_on(options, RuntimeConfig::with_files_below).await
}

/// Reads the list and checks its signature. Blocks.
pub(crate) fn allow_list(options: &AllowListOptions) -> Result<(), AllowListError> {
    DigestList::open(options).map(drop)
}

/// Asks a Redis for a key, as components would.
pub(crate) async fn redis(url: &str) -> Result<(), String> {
    let store = RedisStore::new(url).map_err(|error| error.to_string())?;
    store.exists("zlh-doctor".to_owned()).await.map(drop).map_err(|error| format!("{error:?}"))
}

/// What a PostgreSQL says of itself.
#[derive(Debug)]
pub(crate) struct Server {
    /// As in `150004`.
    pub(crate) version: i32,
    /// Of the database.
    pub(crate) encoding: String,
    /// Whether what is committed is on disk.
    pub(crate) synchronous_commit: String,
    /// Its clock.
    pub(crate) now: OffsetDateTime,
    /// Whether tables may be made.
    pub(crate) may_create: bool,
    /// Version of the schema; none before the first start.
    pub(crate) schema: Option<i64>,
}

/// Asks a PostgreSQL, over a connection like those of components.
pub(crate) async fn postgres(url: &str) -> Result<Server, String> {
    let client = postgres::connect(url).await.map_err(|error| match error {
        PostgresError::ConnectionFailed(reason) => reason,
        error => format!("{error:?}"),
    })?;
    ask(&client).await.map_err(|error| {
        let error: &dyn std::error::Error = &error;
        match error.source() {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        }
    })
}

async fn ask(client: &Object) -> Result<Server, tokio_postgres::Error> {
    let row = client
        .query_one(
            "SELECT current_setting('server_version_num')::int, \
             current_setting('server_encoding'), current_setting('synchronous_commit'), \
             clock_timestamp(), \
             coalesce(has_schema_privilege(current_schema(), 'CREATE'), false), \
             to_regclass('schema_migrations') IS NOT NULL",
            &[],
        )
        .await?;
    let schema = match row.try_get(5)? {
        true => {
            let newest = "SELECT COALESCE(MAX(version), 0) FROM schema_migrations";
            Some(client.query_one(newest, &[]).await?.try_get(0)?)
        }
        false => None,
    };
    Ok(Server {
        version: row.try_get(0)?,
        encoding: row.try_get(1)?,
        synchronous_commit: row.try_get(2)?,
        now: row.try_get(3)?,
        may_create: row.try_get(4)?,
        schema,
    })
}
