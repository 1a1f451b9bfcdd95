//! One outbound HTTP call. The host holds it to the stanza's `allowed_outbound_hosts` and follows no
//! redirect.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use send_wrapper::SendWrapper;
use spin_sdk::http::FullBody;
use spin_sdk::wasip3::http::types::RequestOptions;
use spin_sdk::wasip3::http_compat::RequestOptionsExtension;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long an answer may take to begin, and to go on: less than the host gives the request that waits for it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(25);

/// Why a call gave no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No answer.
    #[error("no answer: {0}")]
    Failed(String),
    /// The answer is longer than the caller takes.
    #[error("the answer has more than {limit} bytes")]
    TooLarge {
        /// What the caller takes.
        limit: usize,
    },
}

/// Sends a request and reads the whole answer, up to `limit` bytes.
///
/// # Errors
///
/// [`SendError`]; an answer of any status is a success here.
pub async fn send(
    mut request: http::Request<Bytes>,
    limit: usize,
) -> Result<http::Response<Bytes>, SendError> {
    SendWrapper::new(async move {
        request.extensions_mut().insert(timeouts());
        let response = spin_sdk::http::send(request.map(FullBody::new))
            .await
            .map_err(|error| SendError::Failed(error.to_string()))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, limit).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                SendError::TooLarge { limit }
            } else {
                SendError::Failed(error.to_string())
            }
        })?;
        Ok(http::Response::from_parts(parts, body.to_bytes()))
    })
    .await
}

/// A host that knows no timeouts ignores what it is asked for, so refusals are not errors.
fn timeouts() -> RequestOptionsExtension {
    let nanoseconds = |timeout: Duration| u64::try_from(timeout.as_nanos()).ok();
    let options = RequestOptions::new();
    let _ = options.set_connect_timeout(nanoseconds(CONNECT_TIMEOUT));
    let _ = options.set_first_byte_timeout(nanoseconds(ANSWER_TIMEOUT));
    let _ = options.set_between_bytes_timeout(nanoseconds(ANSWER_TIMEOUT));
    RequestOptionsExtension(options)
}
