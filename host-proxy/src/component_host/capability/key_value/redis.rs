//! A store in Redis, its keys as Spin writes them: two labels with one URL are one store.
//!
//! All components share one connection, on which requests do not wait for each other; it is made when it is
//! first needed, and made again when it was lost.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, Cmd, FromRedisValue, RedisError, cmd};

use super::Backend;
use crate::component_host::capability::bindings::spin::key_value::key_value::Error;

/// How long connecting and each answer may take: the store is a cache beside us, or it is down.
const TIMEOUT: Duration = Duration::from_secs(2);
/// Keys that are asked for at a time.
const SCAN_COUNT: usize = 512;
/// All keys together, in bytes: they are returned at once.
const MAX_KEYS_BYTES: usize = 32 << 20;
/// A value, in bytes: well below what an instance may use.
const MAX_VALUE_BYTES: usize = 32 << 20;

/// Sets a value if it is still the first argument; answers 1 if it was.
const SWAP: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then \
                    redis.call('SET', KEYS[1], ARGV[2]) return 1 end return 0";

/// A store at one URL.
pub(crate) struct RedisStore(ConnectionManager);

impl RedisStore {
    /// Does not connect yet.
    ///
    /// # Errors
    ///
    /// The URL is no URL of Redis.
    pub(crate) fn new(url: &str) -> Result<Self, RedisError> {
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(TIMEOUT))
            .set_response_timeout(Some(TIMEOUT))
            .set_number_of_retries(1);
        ConnectionManager::new_lazy_with_config(Client::open(url)?, config).map(Self)
    }

    /// Runs a command that must not be repeated: whether it was done when the connection is lost, nobody
    /// knows.
    async fn once<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let mut connection = self.0.clone();
        command.query_async(&mut connection).await.map_err(|error| Error::Other(error.to_string()))
    }

    /// Runs a command, twice if the first finds that the connection was lost.
    async fn run<T: FromRedisValue>(&self, command: &Cmd) -> Result<T, Error> {
        let mut connection = self.0.clone();
        let answer = match command.query_async(&mut connection).await {
            Err(error) if error.is_connection_dropped() || error.is_io_error() => {
                command.query_async(&mut connection).await
            }
            answer => answer,
        };
        answer.map_err(|error| Error::Other(error.to_string()))
    }
}

#[async_trait]
impl Backend for RedisStore {
    async fn get(&self, key: String) -> Result<Option<Vec<u8>>, Error> {
        let value: Option<Vec<u8>> = self.run(cmd("GET").arg(key)).await?;
        match value {
            Some(value) if value.len() > MAX_VALUE_BYTES => {
                Err(Error::Other(format!("the value has more than {MAX_VALUE_BYTES} bytes")))
            }
            value => Ok(value),
        }
    }

    async fn set(&self, key: String, value: Vec<u8>) -> Result<(), Error> {
        self.run(cmd("SET").arg(key).arg(value)).await
    }

    async fn delete(&self, key: String) -> Result<(), Error> {
        self.run(cmd("DEL").arg(key)).await
    }

    async fn exists(&self, key: String) -> Result<bool, Error> {
        self.run(cmd("EXISTS").arg(key)).await
    }

    async fn keys(&self) -> Result<Vec<String>, Error> {
        // A scan may return a key more than once.
        let (mut keys, mut bytes, mut cursor) = (BTreeSet::new(), 0, 0_u64);
        loop {
            let mut scan = cmd("SCAN");
            scan.arg(cursor).arg("COUNT").arg(SCAN_COUNT);
            let (next, found): (u64, Vec<String>) = self.run(&scan).await?;
            bytes += found.iter().map(String::len).sum::<usize>();
            if bytes > MAX_KEYS_BYTES {
                return Err(Error::Other(format!(
                    "the keys have more than {MAX_KEYS_BYTES} bytes"
                )));
            }
            keys.extend(found);
            if next == 0 {
                return Ok(keys.into_iter().collect());
            }
            cursor = next;
        }
    }

    async fn swap(&self, key: String, old: Option<Vec<u8>>, new: Vec<u8>) -> Result<bool, Error> {
        match old {
            None => {
                let set: Option<String> = self.once(cmd("SET").arg(key).arg(new).arg("NX")).await?;
                Ok(set.is_some())
            }
            Some(old) => self.once(cmd("EVAL").arg(SWAP).arg(1).arg(key).arg(old).arg(new)).await,
        }
    }

    /// The number is text.
    async fn increment(&self, key: String, delta: i64) -> Result<i64, Error> {
        self.once(cmd("INCRBY").arg(key).arg(delta)).await
    }
}
