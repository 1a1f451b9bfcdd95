//! Downloads: the file as it is, from the disk as fast as it is taken.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::ops::Range;
use std::os::unix::fs::MetadataExt as _;

use axum::body::{Body, Bytes};
use axum::http::header::{
    ACCEPT_RANGES, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    IF_RANGE, RANGE,
};
use axum::http::{HeaderMap, Response, StatusCode};
use futures::stream;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::path::RelativePath;
use super::policy::Act;
use super::{FileError, Files};

/// Read at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// Read ahead of a slow receiver.
const CHUNKS: usize = 2;

/// A file that is open, and which part of it is wanted.
pub(super) struct Download {
    file: std::fs::File,
    size: u64,
    etag: String,
    part: Option<Range<u64>>,
}

impl Files {
    pub(super) fn download(&self, path: &str, headers: &HeaderMap) -> Result<Download, FileError> {
        let path = RelativePath::parse_below(path)?;
        self.check(Act::Read, &path)?;
        let (file, size) = self.open_file(&path)?;
        let mut file = file.into_std();
        let metadata = file.metadata()?;
        let etag = format!("\"{:x}-{:x}-{:x}\"", size, metadata.mtime(), metadata.mtime_nsec());
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        // Another part of another version of the file would be neither.
        let same = text(IF_RANGE).is_none_or(|known| known == etag);
        let part = match text(RANGE).filter(|_| same).and_then(|range| asked_part(range, size)) {
            None => None,
            Some(part) if part.start < part.end => Some(part),
            Some(_) => return Err(FileError::Refused(format!("it has only {size} bytes"))),
        };
        if let Some(part) = &part {
            file.seek(SeekFrom::Start(part.start))?;
        }
        Ok(Download { file, size, etag, part })
    }
}

impl Download {
    pub(super) fn respond(self) -> Result<Response<Body>, axum::http::Error> {
        let range = self.part.clone().unwrap_or(0..self.size);
        let length = range.end - range.start;
        let mut response = Response::builder()
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_DISPOSITION, "attachment")
            .header(CONTENT_LENGTH, length)
            .header(ACCEPT_RANGES, "bytes")
            .header(ETAG, &self.etag);
        if self.part.is_some() {
            let last = range.end - 1;
            response = response
                .status(StatusCode::PARTIAL_CONTENT)
                .header(CONTENT_RANGE, format!("bytes {}-{last}/{}", range.start, self.size));
        }
        let (sender, receiver) = mpsc::channel(CHUNKS);
        spawn_blocking(move || send(self.file, length, &sender));
        let chunks = stream::unfold(receiver, async |mut receiver| {
            receiver.recv().await.map(|chunk| (chunk, receiver))
        });
        response.body(Body::from_stream(chunks))
    }
}

/// Ends when the receiver is gone.
fn send(file: std::fs::File, length: u64, sender: &mpsc::Sender<std::io::Result<Bytes>>) {
    let mut file = file.take(length);
    loop {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES);
        let read = file.by_ref().take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
        let last = !matches!(read, Ok(1..));
        let chunk = read.map(|_| Bytes::from(chunk));
        // A file that became shorter leaves the answer short of its length, which its receiver sees.
        let sent = !(last && chunk.is_ok()) && sender.blocking_send(chunk).is_ok();
        if last || !sent {
            return;
        }
    }
}

/// The one part that a `Range` asks for (RFC 9110 section 14.1.2); none where the whole file is the answer. An
/// empty part cannot be satisfied.
fn asked_part(range: &str, size: u64) -> Option<Range<u64>> {
    let (first, last) = range.strip_prefix("bytes=")?.split_once('-')?;
    let number =
        |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<u64>().ok())?;
    if first.is_empty() {
        return Some(size.saturating_sub(number(last)?)..size);
    }
    let first = number(first)?;
    let end = match last {
        "" => size,
        last => number(last).filter(|last| *last >= first)?.saturating_add(1).min(size),
    };
    Some(first.min(end)..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_part_of_a_file_can_be_asked_for() {
        for (range, part) in [
            ("bytes=0-", Some(0..10)),
            ("bytes=4-", Some(4..10)),
            ("bytes=4-6", Some(4..7)),
            ("bytes=4-99", Some(4..10)),
            ("bytes=-3", Some(7..10)),
            ("bytes=-99", Some(0..10)),
            ("bytes=10-", Some(10..10)),
            ("bytes=99-", Some(10..10)),
            ("bytes=6-4", None),
            ("bytes=0-1,4-5", None),
            ("bytes=+1-", None),
            ("bytes=-", None),
            ("lines=0-", None),
        ] {
            assert_eq!(asked_part(range, 10), part, "{range}");
        }
    }
}
