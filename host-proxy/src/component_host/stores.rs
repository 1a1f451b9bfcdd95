//! The databases and stores behind the labels that manifests grant.

use std::collections::BTreeMap;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::HostError;
use super::capability::{key_value, postgres, sqlite};
use super::manifest::{Component, ManifestError};
use super::runtime_config::{KeyValueStore, RuntimeConfig};
use crate::body::BoxError;

/// The label that Spin serves without being told.
const DEFAULT: &str = "default";

/// What is open, shared by all components.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) key_value: Arc<key_value::Stores>,
    pub(crate) sqlite: Arc<sqlite::Databases>,
    pub(crate) postgres: Arc<postgres::Pools>,
}

impl Stores {
    /// Opens what the configuration names; `default`, and the key-value stores `embedded`, are in the state
    /// folder where it does not name them. Blocks.
    pub(crate) fn open(
        config: &RuntimeConfig,
        embedded: &[&str],
        state_dir: &Path,
    ) -> Result<Self, HostError> {
        let mut databases = BTreeMap::new();
        let in_state_dir = state_dir.join("sqlite_db.db");
        let default = (DEFAULT.to_owned(), in_state_dir);
        let configured = config.sqlite_databases.clone();
        for (label, path) in std::iter::once(default).chain(configured).collect::<BTreeMap<_, _>>()
        {
            let pool = private_file(&path)
                .and_then(|()| Ok(sqlite::Pool::open(path.clone())?))
                .map_err(|source| HostError::State { path, source })?;
            databases.insert(label, Arc::new(pool));
        }

        let mut stores = BTreeMap::new();
        let in_state_dir = KeyValueStore::Sqlite(Some(state_dir.join("sqlite_key_value.db")));
        for label in embedded.iter().chain(&[DEFAULT]) {
            stores.insert((*label).to_owned(), in_state_dir.clone());
        }
        stores.extend(config.key_value_stores.clone());
        Ok(Self {
            key_value: Arc::new(open_stores(stores)?),
            sqlite: Arc::new(databases),
            postgres: Arc::default(),
        })
    }

    /// Whether there is something behind every label that the component is granted.
    pub(crate) fn check(&self, key: &str, component: &Component) -> Result<(), ManifestError> {
        let missing = |kind: &str, table: &str, label: &str| {
            let reason = format!(
                "there is no {kind} `{label}`; define it as `[{table}.{label}]` in the runtime configuration"
            );
            ManifestError::invalid(format!("{key}.{kind}s"), reason)
        };
        for label in &component.sqlite_databases {
            if !self.sqlite.contains_key(label) {
                return Err(missing("sqlite_database", "sqlite_database", label));
            }
        }
        for label in &component.key_value_stores {
            if !self.key_value.contains_key(label) {
                return Err(missing("key_value_store", "key_value_store", label));
            }
        }
        Ok(())
    }
}

fn open_stores(stores: BTreeMap<String, KeyValueStore>) -> Result<key_value::Stores, HostError> {
    // Stores of one file share its connection.
    let mut files: BTreeMap<PathBuf, Arc<key_value::Database>> = BTreeMap::new();
    let mut opened = key_value::Stores::new();
    for (label, store) in stores {
        let backend: Arc<dyn key_value::Backend> = match store {
            KeyValueStore::Redis(url) => {
                let store = key_value::RedisStore::new(&url).map_err(|error| {
                    HostError::KeyValueStore { label: label.clone(), source: error.into() }
                })?;
                Arc::new(store)
            }
            KeyValueStore::Sqlite(path) => {
                let known = path.as_ref().and_then(|path| files.get(path)).cloned();
                let database = match known {
                    Some(database) => database,
                    None => Arc::new(open_file(path.as_deref())?),
                };
                files.extend(path.map(|path| (path, Arc::clone(&database))));
                Arc::new(key_value::SqliteStore { database, label: label.clone() })
            }
        };
        opened.insert(label, backend);
    }
    Ok(opened)
}

fn open_file(path: Option<&Path>) -> Result<key_value::Database, HostError> {
    let open = || -> Result<_, BoxError> {
        if let Some(path) = path {
            private_file(path)?;
        }
        Ok(key_value::Database::open(path)?)
    };
    let failed = path.unwrap_or(Path::new(":memory:"));
    open().map_err(|source| HostError::State { path: failed.to_owned(), source })
}

/// Creates the file for its owner only, with its folder, if it is not there; SQLite gives its companions the
/// same permissions.
fn private_file(path: &Path) -> Result<(), BoxError> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    std::fs::OpenOptions::new().create(true).append(true).mode(0o600).open(path)?;
    Ok(())
}
