//! Bodies on their way into and out of a guest.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use thiserror::Error;
use wasmtime_wasi_http::{Error, WasiBody};

use super::Exchange;
use crate::body::{Body, BoxError};

/// Why the body of a response broke off.
#[derive(Debug, Error)]
enum Broken {
    #[error("the component failed before its response was complete")]
    Failed,
    #[error("the component's response is larger than {0} bytes")]
    TooLarge(u64),
}

/// A request's body that fails, and sets `too_large`, once it is larger than allowed.
pub(super) fn limit_request(
    inner: Body,
    limit: u64,
    too_large: Arc<AtomicBool>,
) -> impl http_body::Body<Data = Bytes, Error = Error> {
    RequestBody { inner, remaining: limit, too_large }
}

/// A response's body that fails once it is larger than allowed, and when its instance dies.
pub(super) fn limit_response(
    inner: WasiBody,
    limit: u64,
    exchange: Arc<Exchange>,
) -> impl http_body::Body<Data = Bytes, Error = BoxError> {
    ResponseBody { inner, limit, remaining: limit, exchange }
}

/// Takes a frame's size off what remains; `None` when it is too much.
fn take(remaining: u64, frame: &Frame<Bytes>) -> Option<u64> {
    let size = frame.data_ref().map_or(0, Bytes::len);
    remaining.checked_sub(u64::try_from(size).ok()?)
}

struct RequestBody {
    inner: Body,
    remaining: u64,
    too_large: Arc<AtomicBool>,
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)) else {
            return Poll::Ready(None);
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(error) => {
                tracing::debug!(error = %error, "a request's body broke off");
                return Poll::Ready(Some(Err(Error::ConnectionTerminated)));
            }
        };
        match take(self.remaining, &frame) {
            Some(remaining) => {
                self.remaining = remaining;
                Poll::Ready(Some(Ok(frame)))
            }
            None => {
                self.too_large.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(Error::HttpRequestBodySize(None))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

struct ResponseBody {
    inner: WasiBody,
    limit: u64,
    remaining: u64,
    exchange: Arc<Exchange>,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
            Some(Ok(frame)) => match take(self.remaining, &frame) {
                Some(remaining) => {
                    self.remaining = remaining;
                    Poll::Ready(Some(Ok(frame)))
                }
                None => Poll::Ready(Some(Err(Broken::TooLarge(self.limit).into()))),
            },
            Some(Err(error)) => Poll::Ready(Some(Err(error.into()))),
            // The stream of a dead instance ends like any other.
            None if self.exchange.failed() => Poll::Ready(Some(Err(Broken::Failed.into()))),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream() && !self.exchange.failed()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
