//! host-proxy's own calls to components, below `/internal`.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zlh_authn::token::{Claims, SigningKeys, TokenKind};

use super::ComponentApi;
use crate::{body, clock};

/// Short, as the holder may do everything.
const TOKEN_TTL: Duration = Duration::from_secs(60);
/// A token is not used in its last seconds, so that it does not expire on its way.
const TOKEN_MARGIN_SECONDS: i64 = 15;
/// A call is a few database statements; a minute-long migration is the exception.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
const SLOW_CALL_TIMEOUT: Duration = Duration::from_secs(120);
/// A thousand containers fit several times.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// A call to the components failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// They refused.
    #[error("{call} answered {status}: {message}")]
    Status {
        /// Path of the call.
        call: String,
        /// The answer's status.
        status: StatusCode,
        /// The envelope's text.
        message: String,
    },
    /// They did not answer, or not in a way that can be read.
    #[error("{call} failed: {reason}")]
    Broken {
        /// Path of the call.
        call: String,
        /// What happened.
        reason: String,
    },
}

impl CallError {
    /// The status, if there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Status { status, .. } => Some(*status),
            Self::Broken { .. } => None,
        }
    }

    /// The envelope's text, or what happened instead of an answer.
    #[must_use]
    pub fn message(&self) -> &str {
        match self {
            Self::Status { message, .. } => message,
            Self::Broken { reason, .. } => reason,
        }
    }
}

/// Calls with a token of our own.
pub struct InternalApi {
    api: ComponentApi,
    keys: SigningKeys,
    /// Our name, the token's subject.
    subject: String,
    token: Mutex<Option<(String, i64)>>,
}

impl InternalApi {
    /// Calls to `api`, signed with the `internal` key.
    #[must_use]
    pub fn new(api: ComponentApi, keys: SigningKeys, host_id: &str) -> Arc<Self> {
        let subject = format!("host-proxy:{host_id}");
        Arc::new(Self { api, keys, subject, token: Mutex::new(None) })
    }

    /// `GET path`.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn get<O: DeserializeOwned>(&self, path: &str) -> Result<O, CallError> {
        let answer = self.call(Method::GET, path, Bytes::new(), CALL_TIMEOUT).await?;
        read(path, &answer)
    }

    /// `POST path` for an answer with a body.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn post<I: Serialize + Sync, O: DeserializeOwned>(
        &self,
        path: &str,
        input: &I,
    ) -> Result<O, CallError> {
        let answer = self.call(Method::POST, path, write(path, input)?, CALL_TIMEOUT).await?;
        read(path, &answer)
    }

    /// `POST path` for an answer without one.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn tell<I: Serialize + Sync>(&self, path: &str, input: &I) -> Result<(), CallError> {
        self.call(Method::POST, path, write(path, input)?, CALL_TIMEOUT).await.map(drop)
    }

    /// `POST path` without a body, for work that may take minutes.
    ///
    /// # Errors
    ///
    /// [`CallError`].
    pub async fn run<O: DeserializeOwned>(&self, path: &str) -> Result<O, CallError> {
        let answer = self.call(Method::POST, path, Bytes::new(), SLOW_CALL_TIMEOUT).await?;
        read(path, &answer)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        content: Bytes,
        limit: Duration,
    ) -> Result<Bytes, CallError> {
        let work = self.call_unbounded(method, path, content);
        match tokio::time::timeout(limit, work).await {
            Ok(answer) => answer,
            Err(_) => Err(broken(path, format!("no answer within {} s", limit.as_secs()))),
        }
    }

    async fn call_unbounded(
        &self,
        method: Method,
        path: &str,
        content: Bytes,
    ) -> Result<Bytes, CallError> {
        let token = self.token().map_err(|error| broken(path, error.to_string()))?;
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "zlh.internal")
            .header(AUTHORIZATION, format!("Bearer {token}"));
        if !content.is_empty() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request =
            request.body(body::full(content)).map_err(|error| broken(path, error.to_string()))?;

        let ourselves = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let response = self
            .api
            .call(request, ourselves)
            .await
            .map_err(|error| broken(path, error.to_string()))?;
        let status = response.status();
        let answer = body::limited(response.into_body(), MAX_ANSWER_BYTES)
            .collect()
            .await
            .map_err(|error| broken(path, error.to_string()))?
            .to_bytes();
        if status.is_success() {
            return Ok(answer);
        }
        Err(CallError::Status { call: path.to_owned(), status, message: envelope_text(&answer) })
    }

    fn token(&self) -> Result<String, zlh_authn::token::TokenError> {
        let now = clock::unix_seconds();
        let mut cached = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, _)) = cached.as_ref().filter(|(_, until)| now < *until) {
            return Ok(token.clone());
        }
        let claims = Claims::new(TokenKind::Internal, &self.subject, now, TOKEN_TTL)?;
        let until = claims.exp - TOKEN_MARGIN_SECONDS;
        let token = self.keys.sign(&claims)?;
        *cached = Some((token.clone(), until));
        Ok(token)
    }
}

fn write<I: Serialize>(path: &str, input: &I) -> Result<Bytes, CallError> {
    serde_json::to_vec(input).map(Bytes::from).map_err(|error| broken(path, error.to_string()))
}

fn read<O: DeserializeOwned>(path: &str, answer: &[u8]) -> Result<O, CallError> {
    serde_json::from_slice(answer)
        .map_err(|error| broken(path, format!("the answer cannot be read: {error}")))
}

fn broken(path: &str, reason: String) -> CallError {
    CallError::Broken { call: path.to_owned(), reason }
}

fn envelope_text(answer: &[u8]) -> String {
    serde_json::from_slice::<serde_json::Value>(answer)
        .ok()
        .and_then(|value| value.get("error")?.as_str().map(str::to_owned))
        .unwrap_or_else(|| "no reason given".to_owned())
}
