//! What the probe does to its host.

use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use bytes::Bytes;
use futures::SinkExt as _;
use http::{HeaderName, HeaderValue, Response};
use http_body_util::BodyExt;
use spin_sdk::http::{Request, body, box_body};
use spin_sdk::time::sleep;

use super::{Answer, said, text};

thread_local! {
    static SERVED: Cell<u64> = const { Cell::new(0) };
}

/// How many bytes a request has.
pub(super) async fn count(request: Request) -> Answer {
    let body = request.into_body().collect().await;
    said(body.map(|body| body.to_bytes().len()))
}

pub(super) fn endless() -> Answer {
    loop {
        black_box(());
    }
}

/// Computes for as long as so many millions of steps take.
pub(super) fn compute(millions: usize) -> Answer {
    let mut sum = 0_usize;
    for step in 0..millions.saturating_mul(1_000_000) {
        sum = black_box(sum.wrapping_add(step));
    }
    text(sum)
}

/// Takes memory until there is none, then says how many MiB it has.
pub(super) fn grow() -> Answer {
    let mut taken: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut more = Vec::new();
        if more.try_reserve_exact(1 << 20).is_err() {
            return text(taken.len());
        }
        taken.push(more);
    }
}

#[expect(clippy::panic, reason = "that is what it is for")]
pub(super) fn fail() -> Answer {
    panic!("the probe was told to");
}

/// Says how many streams this instance has begun, and then "tick" for ever.
pub(super) fn stream() -> Answer {
    let (mut sender, response) = body::stream::<Bytes>();
    let number = SERVED.get() + 1;
    SERVED.set(number);
    spin_sdk::wasip3::spawn(async move {
        let mut next = Bytes::from(format!("stream {number}\n"));
        while sender.send(next).await.is_ok() {
            next = Bytes::from_static(b"tick\n");
            sleep(Duration::from_millis(20)).await;
        }
    });
    Response::new(box_body(response))
}

/// Does not answer.
pub(super) async fn hang() -> Answer {
    sleep(Duration::from_secs(3600)).await;
    text("late")
}

/// So many headers.
pub(super) fn headers(count: usize) -> Answer {
    let mut response = text("headers");
    for number in 0..count {
        if let Ok(name) = HeaderName::try_from(format!("x-{number}")) {
            response.headers_mut().insert(name, HeaderValue::from_static("value"));
        }
    }
    response
}

/// One header of so many bytes.
pub(super) fn header(bytes: usize) -> Answer {
    let mut response = text("header");
    if let Ok(value) = HeaderValue::try_from("v".repeat(bytes)) {
        response.headers_mut().insert("x-long", value);
    }
    response
}

/// A body of so many bytes, streamed.
pub(super) fn body(bytes: usize) -> Answer {
    const PIECE: &[u8] = &[b'b'; 16 << 10];
    let (mut sender, response) = body::stream::<Bytes>();
    spin_sdk::wasip3::spawn(async move {
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(PIECE.len());
            left -= piece;
            if sender.send(Bytes::from(PIECE.get(..piece).unwrap_or(PIECE))).await.is_err() {
                return;
            }
        }
    });
    Response::new(box_body(response))
}
