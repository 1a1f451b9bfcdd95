//! Tokens whose signature was checked before: an instance serves many requests, and most bring a token that it
//! has seen.

use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};

use lru::LruCache;
use sha2::{Digest, Sha256};

/// Tokens that are remembered; each takes about a hundred bytes.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

/// What tokens of one kind say, by their SHA-256. The tokens themselves are not kept.
///
/// Only what the signature proves may be in it: whether the login still holds is asked each time.
#[derive(Debug)]
pub struct VerifiedTokens<T> {
    entries: Mutex<LruCache<[u8; 32], Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    /// Unix seconds.
    expires_at: i64,
    value: T,
}

impl<T: Clone> VerifiedTokens<T> {
    /// None so far.
    #[must_use]
    pub fn new() -> Self {
        Self { entries: Mutex::new(LruCache::new(CAPACITY)) }
    }

    /// What the token says, if it was verified before and has not expired. `now` is in Unix seconds.
    #[must_use]
    pub fn get(&self, token: &str, now: i64) -> Option<T> {
        let key = key(token);
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(&key) {
            Some(entry) if entry.expires_at > now => Some(entry.value.clone()),
            Some(_) => {
                entries.pop(&key);
                None
            }
            None => None,
        }
    }

    /// Remembers a token that was verified just now, until `expires_at` in Unix seconds.
    pub fn insert(&self, token: &str, expires_at: i64, value: T) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.put(key(token), Entry { expires_at, value });
    }
}

impl<T: Clone> Default for VerifiedTokens<T> {
    fn default() -> Self {
        Self::new()
    }
}

fn key(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_remembered_until_it_expires() {
        let tokens = VerifiedTokens::new();
        tokens.insert("a.b.c", 100, "ann");

        assert_eq!(tokens.get("a.b.c", 99), Some("ann"));
        assert_eq!(tokens.get("a.b.d", 99), None);
        assert_eq!(tokens.get("a.b.c", 100), None);
        assert_eq!(tokens.get("a.b.c", 99), None, "it is forgotten");
    }

    #[test]
    fn memory_is_bounded() {
        let tokens = VerifiedTokens::new();
        for number in 0..=CAPACITY.get() {
            tokens.insert(&number.to_string(), 100, number);
        }

        assert_eq!(tokens.get("0", 1), None);
        assert_eq!(tokens.get("1", 1), Some(1));
    }
}
