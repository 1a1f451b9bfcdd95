//! The last output of a console, read by as many as like, each at its own pace.
//!
//! Positions count bytes of output since the console exists. Whoever is too slow, or comes back too late,
//! finds the oldest bytes gone; nobody makes the back-log grow.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// A screenful is 4 kB; this is an hour of a quiet server, or the whole stack trace of a loud one.
pub(crate) const CAPACITY: usize = 256 * 1024;

/// The last bytes that were pushed.
#[derive(Debug)]
pub(crate) struct Backlog {
    ring: Mutex<Ring>,
    end: watch::Sender<u64>,
}

#[derive(Debug)]
struct Ring {
    bytes: VecDeque<u8>,
    end: u64,
}

/// Bytes that belong together.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The position of the first one.
    pub(crate) at: u64,
    pub(crate) bytes: Vec<u8>,
}

impl Chunk {
    pub(crate) fn end(&self) -> u64 {
        self.at + length(self.bytes.len())
    }
}

impl Backlog {
    /// An empty one, whose first byte will have this position.
    pub(crate) fn new(begin: u64) -> Self {
        Self {
            ring: Mutex::new(Ring { bytes: VecDeque::new(), end: begin }),
            end: watch::Sender::new(begin),
        }
    }

    /// Appends bytes that begin at this position. What is known already is left out; after a jump forward
    /// nothing older is kept, because nobody could tell where the hole is.
    pub(crate) fn push(&self, at: u64, bytes: &[u8]) {
        let mut ring = self.lock();
        let known = usize::try_from(ring.end.saturating_sub(at)).unwrap_or(usize::MAX);
        let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) else { return };
        if at > ring.end {
            ring.bytes.clear();
            ring.end = at;
        }
        ring.end += length(new.len());
        let new = new.get(new.len().saturating_sub(CAPACITY)..).unwrap_or_default();
        let surplus = (ring.bytes.len() + new.len()).saturating_sub(CAPACITY);
        ring.bytes.drain(..surplus);
        ring.bytes.extend(new);
        let end = ring.end;
        drop(ring);
        self.end.send_replace(end);
    }

    /// The position of the next byte.
    pub(crate) fn end(&self) -> u64 {
        self.lock().end
    }

    /// What there is from a position on, or from the oldest byte that is left; at most `limit` bytes. From
    /// a position that was never reached, it is everything.
    pub(crate) fn read(&self, from: u64, limit: usize) -> Chunk {
        let ring = self.lock();
        let oldest = ring.end - length(ring.bytes.len());
        let at = if from > ring.end { oldest } else { from.max(oldest) };
        let skip = usize::try_from(at - oldest).unwrap_or(usize::MAX);
        Chunk { at, bytes: ring.bytes.iter().skip(skip).take(limit).copied().collect() }
    }

    /// Learns of new bytes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// The last lines, for people who are told of a crash.
    pub(crate) fn tail(&self, limit: usize) -> Vec<u8> {
        let from = self.end().saturating_sub(length(limit));
        self.read(from, limit).bytes
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn length(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_read_once_however_it_was_pushed() {
        let backlog = Backlog::new(1000);
        backlog.push(1000, b"one ");
        backlog.push(1002, b"e two");

        let first = backlog.read(1000, 5);
        assert_eq!((first.at, first.bytes.as_slice(), first.end()), (1000, &b"one t"[..], 1005));
        assert_eq!(backlog.read(1005, 99).bytes, b"wo");
        assert_eq!(backlog.read(1007, 99), Chunk { at: 1007, bytes: Vec::new() });
        assert_eq!(backlog.read(0, 99).at, 1000);
        assert_eq!(backlog.read(5000, 99).at, 1000, "from another console");
    }

    #[test]
    fn it_never_grows_and_says_what_is_missing() {
        let backlog = Backlog::new(0);
        let block = vec![b'x'; CAPACITY / 2 + 1];
        for at in 0..4 {
            backlog.push(at * length(block.len()), &block);
        }
        backlog.push(backlog.end(), &vec![b'y'; 3 * CAPACITY]);

        let all = backlog.read(0, usize::MAX);
        assert_eq!((all.bytes.len(), all.end()), (CAPACITY, backlog.end()));
        assert!(all.bytes.iter().all(|byte| *byte == b'y'));

        backlog.push(backlog.end() + 10, b"after a hole");
        assert_eq!(backlog.read(0, usize::MAX).bytes, b"after a hole");
    }
}
