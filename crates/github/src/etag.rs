//! Answers kept with their `ETag`, so that asking again costs nothing when nothing changed.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Identity;

/// The most bytes that all kept bodies take together.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// The most bodies that are kept.
const MAX_ENTRIES: usize = 2_048;

/// What is kept of an answer.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) etag: String,
    pub(crate) body: Vec<u8>,
}

type Key = (Identity, String);

/// The kept answers; the oldest make room.
#[derive(Debug, Default)]
pub(crate) struct Etags(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    kept: HashMap<Key, Arc<Kept>>,
    order: VecDeque<Key>,
    bytes: usize,
}

impl Etags {
    /// The kept answer of this credential and URL.
    pub(crate) fn get(&self, identity: Identity, url: &str) -> Option<Arc<Kept>> {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.kept.get(&(identity, url.to_owned())).cloned()
    }

    /// Keeps an answer.
    pub(crate) fn put(&self, identity: Identity, url: &str, kept: Kept) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (identity, url.to_owned());
        inner.bytes += kept.body.len();
        match inner.kept.insert(key.clone(), Arc::new(kept)) {
            Some(old) => inner.bytes -= old.body.len(),
            None => inner.order.push_back(key),
        }
        while inner.bytes > MAX_BYTES || inner.order.len() > MAX_ENTRIES {
            let Some(oldest) = inner.order.pop_front() else {
                break;
            };
            if let Some(old) = inner.kept.remove(&oldest) {
                inner.bytes -= old.body.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(bytes: usize) -> Kept {
        Kept {
            etag: "e".into(),
            body: vec![0; bytes],
        }
    }

    #[test]
    fn the_oldest_make_room() {
        let etags = Etags::default();
        etags.put(Identity::Token, "a", kept(MAX_BYTES));
        etags.put(Identity::Token, "a", kept(MAX_BYTES - 1));
        assert!(etags.get(Identity::Token, "a").is_some());
        etags.put(Identity::Token, "b", kept(2));
        assert!(etags.get(Identity::Token, "a").is_none());
        assert!(etags.get(Identity::Token, "b").is_some());
        for n in 0..=MAX_ENTRIES {
            etags.put(Identity::Token, &n.to_string(), kept(1));
        }
        assert!(etags.get(Identity::Token, "b").is_none());
        assert!(etags.get(Identity::App(0), "5").is_none());
        assert_eq!(etags.0.lock().unwrap().bytes, MAX_ENTRIES);
    }
}
