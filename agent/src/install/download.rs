//! The artifact store over HTTP: bounded, hashed on the way, never redirected.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use zlh_agent_protocol::artifact::Artifact;

use crate::clock::pause;
use crate::http_get::{Endpoint, GetError, get};

/// A catalogue of a hundred runtimes with twenty versions each stays below this.
const CATALOG_LIMIT: usize = 1 << 20;
/// The store is near; a head that takes longer than this does not come.
const HEAD_LIMIT: Duration = Duration::from_secs(20);
/// Between two pieces of a body.
const IDLE_LIMIT: Duration = Duration::from_secs(30);
/// 600 MB at 3 Mbit/s.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(30 * 60);
/// How much more than was promised is read, so that a wrong file's hash can still be named.
const SURPLUS: u64 = 1 << 20;
/// Pauses between attempts; a store that restarts is back by then.
const RETRIES: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(5)];

/// The artifact store did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    #[error("`{0}` is not the address of an artifact store: http://HOST[:PORT][/PATH] is")]
    Address(String),
    #[error("{path}: the artifact store cannot be reached")]
    Unreachable {
        path: String,
        #[source]
        source: GetError,
    },
    #[error("{path}: the artifact store answered {status}")]
    Status { path: String, status: StatusCode },
    #[error("{path}: the answer broke off: {problem}")]
    BrokeOff { path: String, problem: String },
    #[error("{path}: not a catalogue: {problem}")]
    NotACatalog { path: String, problem: String },
    #[error("{path}: expected SHA-256 {expected}, found {found}")]
    Mismatch { path: String, expected: String, found: String },
    #[error("{path}: cannot be written")]
    Write {
        path: String,
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    /// Whether asking again may help.
    fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::BrokeOff { .. } => true,
            Self::Status { status, .. } => status.is_server_error(),
            _ => false,
        }
    }
}

/// One artifact store.
#[derive(Debug)]
pub(crate) struct Store {
    endpoint: Endpoint,
    prefix: String,
    /// Spreads the attempts of one machine's agents.
    jitter: Duration,
}

impl Store {
    /// From a base address such as `http://10.0.0.2:8083`.
    pub(crate) fn new(base: &str, jitter: Duration) -> Result<Self, StoreError> {
        let wrong = || StoreError::Address(base.to_owned());
        let uri: Uri = base.parse().map_err(|_| wrong())?;
        let authority = uri.authority().ok_or_else(wrong)?;
        if uri.scheme_str() != Some("http")
            || uri.query().is_some()
            || authority.as_str().contains('@')
        {
            return Err(wrong());
        }
        Ok(Self {
            endpoint: Endpoint::Tcp(format!(
                "{}:{}",
                authority.host(),
                authority.port_u16().unwrap_or(80)
            )),
            prefix: uri.path().trim_end_matches('/').to_owned(),
            jitter,
        })
    }

    /// A catalogue, by its path below the store's root.
    pub(crate) async fn catalog<T: DeserializeOwned>(&self, path: &str) -> Result<T, StoreError> {
        let mut waits = RETRIES.into_iter();
        loop {
            match self.catalog_once(path).await {
                Ok(catalog) => return Ok(catalog),
                Err(error) => self.wait_or_give_up(error, waits.next()).await?,
            }
        }
    }

    async fn catalog_once<T: DeserializeOwned>(&self, path: &str) -> Result<T, StoreError> {
        let path = path.trim_start_matches('/');
        let broke_off = |problem: String| StoreError::BrokeOff { path: path.to_owned(), problem };

        let body = Limited::new(self.get(path).await?, CATALOG_LIMIT);
        let bytes = tokio::time::timeout(IDLE_LIMIT, body.collect())
            .await
            .map_err(|_| broke_off("it takes too long".to_owned()))?
            .map_err(|error| broke_off(error.to_string()))?
            .to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| StoreError::NotACatalog {
            path: path.to_owned(),
            problem: error.to_string(),
        })
    }

    /// Writes the artifact's file and says whether it is what the catalogue promised.
    ///
    /// # Errors
    ///
    /// The file may be there then, but wrong or incomplete.
    pub(crate) async fn download(&self, artifact: &Artifact, to: &Path) -> Result<(), StoreError> {
        let mut waits = RETRIES.into_iter();
        loop {
            let late = || StoreError::BrokeOff {
                path: artifact.path.clone(),
                problem: "it takes too long".to_owned(),
            };
            let limited =
                tokio::time::timeout(DOWNLOAD_LIMIT, self.download_once(artifact, to)).await;
            match limited.unwrap_or_else(|_| Err(late())) {
                Ok(()) => return Ok(()),
                Err(error) => self.wait_or_give_up(error, waits.next()).await?,
            }
        }
    }

    async fn download_once(&self, artifact: &Artifact, to: &Path) -> Result<(), StoreError> {
        let path = &artifact.path;
        let write = |source| StoreError::Write { path: path.clone(), source };

        let mut body = self.get(path).await?;
        let mut file = tokio::fs::File::create(to).await.map_err(write)?;
        let (mut hash, mut size) = (Sha256::new(), 0_u64);
        while let Some(data) = next(&mut body, path).await? {
            size += u64::try_from(data.len()).unwrap_or(u64::MAX);
            if size > artifact.size_bytes.saturating_add(SURPLUS) {
                return Err(mismatch(artifact, &format!("a file of more than {size} bytes")));
            }
            hash.update(&data);
            if size <= artifact.size_bytes {
                file.write_all(&data).await.map_err(write)?;
            }
        }
        file.flush().await.map_err(write)?;

        let found = hex(&hash.finalize());
        if found != artifact.sha256 {
            return Err(mismatch(artifact, &found));
        }
        if size != artifact.size_bytes {
            let sizes = format!("{found} with {size} bytes in place of {}", artifact.size_bytes);
            return Err(mismatch(artifact, &sizes));
        }
        Ok(())
    }

    async fn get(&self, path: &str) -> Result<Incoming, StoreError> {
        let answer = get(&self.endpoint, &format!("{}/{path}", self.prefix), HEAD_LIMIT)
            .await
            .map_err(|source| StoreError::Unreachable { path: path.to_owned(), source })?;
        // A redirect is no answer: it would let whoever serves the store send the agent elsewhere.
        match answer.status() {
            StatusCode::OK => Ok(answer.into_body()),
            status => Err(StoreError::Status { path: path.to_owned(), status }),
        }
    }

    async fn wait_or_give_up(
        &self,
        error: StoreError,
        wait: Option<Duration>,
    ) -> Result<(), StoreError> {
        match wait {
            Some(wait) if error.is_passing() => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "asking the artifact store again"
                );
                pause(wait + self.jitter).await;
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// The next piece of a body.
async fn next(body: &mut Incoming, path: &str) -> Result<Option<Bytes>, StoreError> {
    let broke_off = |problem: String| StoreError::BrokeOff { path: path.to_owned(), problem };
    while !body.is_end_stream() {
        let frame = tokio::time::timeout(IDLE_LIMIT, body.frame())
            .await
            .map_err(|_| broke_off(format!("nothing came for {} s", IDLE_LIMIT.as_secs())))?;
        match frame.transpose().map_err(|error| broke_off(error.to_string()))? {
            None => return Ok(None),
            // Trailers carry nothing.
            Some(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
    Ok(None)
}

fn mismatch(artifact: &Artifact, found: &str) -> StoreError {
    StoreError::Mismatch {
        path: artifact.path.clone(),
        expected: artifact.sha256.clone(),
        found: found.to_owned(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
