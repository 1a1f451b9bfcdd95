//! Reads `runtime-config.toml`, in Spin's format: which database and which store is behind each label, and where
//! variables come from. As in the manifest, a key that this host does not serve is an error, never ignored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use toml::Value;

use super::manifest::ManifestError;

type Result<T> = std::result::Result<T, ManifestError>;

/// A checked runtime configuration.
#[derive(Debug, Default)]
pub(crate) struct RuntimeConfig {
    /// By label.
    pub(crate) key_value_stores: BTreeMap<String, KeyValueStore>,
    /// Files by label.
    pub(crate) sqlite_databases: BTreeMap<String, PathBuf>,
    /// The first that knows a variable decides.
    pub(crate) providers: Vec<Provider>,
}

/// Where a key-value store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeyValueStore {
    /// In an SQLite file, or in memory only.
    Sqlite(Option<PathBuf>),
    /// In Redis, at a URL.
    Redis(String),
}

/// Where application variables come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Provider {
    /// Values by name.
    Static(BTreeMap<String, String>),
    /// The environment, then a file; the names there are the prefix, `_` and the variable in upper case.
    Environment { prefix: String, file: BTreeMap<String, String> },
}

impl Provider {
    /// The variable's value, if this provider knows it.
    pub(crate) fn get(
        &self,
        name: &str,
        environment: fn(&str) -> Option<String>,
    ) -> Option<String> {
        match self {
            Self::Static(values) => values.get(name).cloned(),
            Self::Environment { prefix, file } => {
                let name = format!("{prefix}_{}", name.to_ascii_uppercase());
                environment(&name).or_else(|| file.get(&name).cloned())
            }
        }
    }
}

/// A key that Spin knows and this host does not serve: its presence is the error.
type Unserved = Option<Value>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    #[serde(default)]
    key_value_store: BTreeMap<String, Value>,
    #[serde(default)]
    sqlite_database: BTreeMap<String, Value>,
    #[serde(default, alias = "config_provider")]
    variables_provider: Vec<Value>,
    client_tls: Unserved,
    llm_compute: Unserved,
    log_dir: Unserved,
    max_instance_memory: Unserved,
    outbound_http: Unserved,
    outbound_mqtt: Unserved,
    outbound_mysql: Unserved,
    outbound_networking: Unserved,
    outbound_pg: Unserved,
    outbound_redis: Unserved,
    state_dir: Unserved,
}

impl RuntimeConfig {
    /// Parses and checks a configuration. Relative paths of stores start at `folder`, where the file is; those
    /// of databases and `dotenv_path` at the working directory, as on Spin.
    pub(crate) fn parse(text: &str, folder: &Path) -> Result<Self> {
        let raw: RawConfig =
            toml::from_str(text).map_err(|error| ManifestError::Syntax(place(text, &error)))?;
        raw.refuse_unserved()?;
        Ok(Self {
            key_value_stores: labelled("key_value_store", raw.key_value_store, |key, value| {
                key_value_store(key, value, folder)
            })?,
            sqlite_databases: labelled("sqlite_database", raw.sqlite_database, sqlite_database)?,
            providers: raw
                .variables_provider
                .into_iter()
                .enumerate()
                .map(|(index, value)| provider(&format!("variables_provider[{index}]"), value))
                .collect::<Result<_>>()?,
        })
    }
}

impl RuntimeConfig {
    /// Every file that it names.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let stores = self.key_value_stores.values().filter_map(|store| match store {
            KeyValueStore::Sqlite(path) => path.clone(),
            KeyValueStore::Redis(_) => None,
        });
        stores.chain(self.sqlite_databases.values().cloned()).collect()
    }

    /// The same with empty files of the folder in the place of each.
    pub(crate) fn with_files_below(mut self, folder: &Path) -> Self {
        for (number, path) in self.sqlite_databases.values_mut().enumerate() {
            *path = folder.join(format!("{number}.db"));
        }
        for store in self.key_value_stores.values_mut() {
            if let KeyValueStore::Sqlite(path) = store {
                *path = None;
            }
        }
        self
    }
}

/// Where and what, without the line itself: passwords are in there.
fn place(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.lines().count().max(1), error.message())
}

impl RawConfig {
    fn refuse_unserved(&self) -> Result<()> {
        let unserved = [
            ("client_tls", &self.client_tls),
            ("llm_compute", &self.llm_compute),
            ("log_dir", &self.log_dir),
            ("max_instance_memory", &self.max_instance_memory),
            ("outbound_http", &self.outbound_http),
            ("outbound_mqtt", &self.outbound_mqtt),
            ("outbound_mysql", &self.outbound_mysql),
            ("outbound_networking", &self.outbound_networking),
            ("outbound_pg", &self.outbound_pg),
            ("outbound_redis", &self.outbound_redis),
            ("state_dir", &self.state_dir),
        ];
        match unserved.iter().find(|(_, value)| value.is_some()) {
            Some((key, _)) => Err(ManifestError::NotServed((*key).to_owned())),
            None => Ok(()),
        }
    }
}

fn labelled<T>(
    key: &str,
    values: BTreeMap<String, Value>,
    read: impl Fn(&str, Value) -> Result<T>,
) -> Result<BTreeMap<String, T>> {
    values
        .into_iter()
        .map(|(label, value)| {
            let value = read(&format!("{key}.{label}"), value)?;
            Ok((label, value))
        })
        .collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPath {
    path: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRedis {
    url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStatic {
    values: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEnvironment {
    prefix: Option<String>,
    dotenv_path: Option<PathBuf>,
}

fn key_value_store(key: &str, value: Value, folder: &Path) -> Result<KeyValueStore> {
    let (kind, rest) = kind(key, value)?;
    match kind.as_str() {
        "spin" => {
            let RawPath { path } = fields(key, rest)?;
            Ok(KeyValueStore::Sqlite(path.map(|path| folder.join(path))))
        }
        "redis" => {
            let RawRedis { url } = fields(key, rest)?;
            Ok(KeyValueStore::Redis(url))
        }
        other => Err(unknown_kind(key, other, "`spin` or `redis`")),
    }
}

fn sqlite_database(key: &str, value: Value) -> Result<PathBuf> {
    let (kind, rest) = kind(key, value)?;
    if kind != "spin" {
        return Err(unknown_kind(key, &kind, "`spin`"));
    }
    let RawPath { path } = fields(key, rest)?;
    path.ok_or_else(|| {
        ManifestError::invalid(
            format!("{key}.path"),
            "is missing, and this host has no databases in memory",
        )
    })
}

fn provider(key: &str, value: Value) -> Result<Provider> {
    let (kind, rest) = kind(key, value)?;
    match kind.as_str() {
        "static" => {
            let RawStatic { values } = fields(key, rest)?;
            Ok(Provider::Static(values))
        }
        "env" => {
            let RawEnvironment { prefix, dotenv_path } = fields(key, rest)?;
            let file = dotenv_path.map(|path| dotenv(key, &path)).transpose()?;
            Ok(Provider::Environment {
                prefix: prefix.unwrap_or_else(|| "SPIN_VARIABLE".into()),
                file: file.unwrap_or_default(),
            })
        }
        other => Err(unknown_kind(key, other, "`static` or `env`")),
    }
}

fn dotenv(key: &str, path: &Path) -> Result<BTreeMap<String, String>> {
    let wrong = |error: dotenvy::Error| {
        let reason = match error {
            dotenvy::Error::Io(error) => format!("{}: {error}", path.display()),
            // What is in the line may be a secret.
            _ => format!("{}: a line is not `NAME=value`", path.display()),
        };
        ManifestError::invalid(format!("{key}.dotenv_path"), reason)
    };
    dotenvy::from_path_iter(path)
        .map_err(wrong)?
        .collect::<std::result::Result<_, _>>()
        .map_err(wrong)
}

/// Splits `type` from the rest of a table.
fn kind(key: &str, value: Value) -> Result<(String, toml::Table)> {
    let Value::Table(mut table) = value else {
        return Err(ManifestError::invalid(key, "is not a table"));
    };
    match table.remove("type") {
        Some(Value::String(kind)) => Ok((kind, table)),
        _ => Err(ManifestError::invalid(format!("{key}.type"), "is missing")),
    }
}

fn unknown_kind(key: &str, kind: &str, served: &str) -> ManifestError {
    let reason = format!("`{kind}` is not served by this host, only {served}");
    ManifestError::invalid(format!("{key}.type"), reason)
}

fn fields<T: DeserializeOwned>(key: &str, table: toml::Table) -> Result<T> {
    table.try_into().map_err(|error: toml::de::Error| ManifestError::invalid(key, error.message()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<RuntimeConfig, String> {
        RuntimeConfig::parse(text, Path::new("/etc/zlh")).map_err(|error| error.to_string())
    }

    #[test]
    fn labels_have_a_store_and_a_database_each() {
        let config = parse(
            "[key_value_store.near]\ntype = 'spin'\npath = 'near.db'\n\
             [key_value_store.gone]\ntype = 'spin'\n\
             [key_value_store.far]\ntype = 'redis'\nurl = 'redis://h/1'\n\
             [sqlite_database.books]\ntype = 'spin'\npath = 'books.db'\n",
        )
        .unwrap();

        assert_eq!(
            config.key_value_stores.into_iter().collect::<Vec<_>>(),
            [
                ("far".to_owned(), KeyValueStore::Redis("redis://h/1".into())),
                ("gone".to_owned(), KeyValueStore::Sqlite(None)),
                ("near".to_owned(), KeyValueStore::Sqlite(Some("/etc/zlh/near.db".into()))),
            ]
        );
        assert_eq!(
            config.sqlite_databases.into_iter().collect::<Vec<_>>(),
            [("books".to_owned(), PathBuf::from("books.db"))]
        );
    }

    #[test]
    fn a_provider_knows_its_values_the_environment_or_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".env");
        std::fs::write(&file, "APP_ONE='of the file'\nAPP_TWO='of the file'\n").unwrap();
        let config = parse(&format!(
            "[[variables_provider]]\ntype = 'static'\nvalues = {{ zero = '0' }}\n\
             [[variables_provider]]\ntype = 'env'\nprefix = 'APP'\ndotenv_path = '{}'\n",
            file.display()
        ))
        .unwrap();
        let environment = |name: &str| (name == "APP_ONE").then(|| "of the process".to_owned());
        let get = |name| config.providers.iter().find_map(|p| p.get(name, environment));

        assert_eq!(get("zero").as_deref(), Some("0"));
        assert_eq!(get("one").as_deref(), Some("of the process"));
        assert_eq!(get("two").as_deref(), Some("of the file"));
        assert_eq!(get("three"), None);
    }

    #[test]
    fn what_is_wrong_is_told_without_the_secrets_in_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(".env");
        std::fs::write(&file, "PASSWORD=hunter2 hunter2\n").unwrap();
        let dotenv =
            format!("[[variables_provider]]\ntype = 'env'\ndotenv_path = '{}'\n", file.display());

        let line = "[key_value_store.a]\ntype = 'redis'\nurl = 'redis://:hunter2@h\n";
        for (text, place) in [(line, "line 3"), (&dotenv, ".env: a line")] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(place) && !error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn what_is_not_served_is_named() {
        for (text, key) in [
            ("nonsense = 1", "nonsense"),
            ("state_dir = 'x'", "`state_dir` is not served"),
            ("[outbound_http]\nconnection_pooling = true", "`outbound_http` is not served"),
            ("[key_value_store.a]\npath = 'x'", "`key_value_store.a.type`: is missing"),
            ("[key_value_store.a]\ntype = 'aws_dynamo'", "`key_value_store.a.type`: `aws_dynamo`"),
            ("[key_value_store.a]\ntype = 'redis'", "`key_value_store.a`: missing field `url`"),
            ("[key_value_store.a]\ntype = 'spin'\nfile = 'x'", "unknown field `file`"),
            ("[sqlite_database.a]\ntype = 'libsql'", "`sqlite_database.a.type`: `libsql`"),
            ("[sqlite_database.a]\ntype = 'spin'", "`sqlite_database.a.path`: is missing"),
            ("[[variables_provider]]\ntype = 'vault'", "`variables_provider[0].type`: `vault`"),
            (
                "[[variables_provider]]\ntype = 'env'\ndotenv_path = '/nowhere/.env'",
                "`variables_provider[0].dotenv_path`: /nowhere/.env",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(key), "{text}: {error}");
        }
    }
}
