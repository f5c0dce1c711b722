//! The tokens that were verified, by their SHA-256. A shorter hash would let a collision pass as another bearer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::claims::Validity;
use super::keys::{Key, KeySet};
use crate::Subject;

/// The most entries.
const MOST: usize = 10_000;

pub(super) type TokenDigest = [u8; 32];

pub(super) fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token).into()
}

/// The verified tokens of one policy.
///
/// It has two halves. A new entry goes into the young half. When this is full, it becomes the old half, whose entries
/// are forgotten. A hit in the old half moves the entry. So an entry is kept while it is used, and nothing is sorted.
#[derive(Debug)]
pub(super) struct Cache {
    young: HashMap<TokenDigest, Entry>,
    old: HashMap<TokenDigest, Entry>,
    half: usize,
    /// The keys of the entries. Another set of keys drops the entries whose key it does not have.
    keys: Option<Arc<KeySet>>,
}

#[derive(Debug)]
struct Entry {
    subject: Subject,
    validity: Validity,
    key: [u8; 32],
}

impl Default for Cache {
    fn default() -> Self {
        Self::with_capacity(MOST)
    }
}

impl Cache {
    pub(super) fn with_capacity(most: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), half: most / 2, keys: None }
    }

    /// Returns the subject of a token that was verified with one of `keys`, and is valid at `now` since 1970.
    pub(super) fn get(
        &mut self,
        token: &TokenDigest,
        keys: &Arc<KeySet>,
        now: Duration,
    ) -> Option<Subject> {
        self.turn_to(keys);
        if let Some(entry) = self.young.get(token) {
            return entry.validity.check(now).ok().map(|()| entry.subject.clone());
        }
        let entry = self.old.remove(token)?;
        entry.validity.check(now).ok()?;
        let subject = entry.subject.clone();
        self.insert(*token, entry);
        Some(subject)
    }

    /// Keeps a token that `key` of `keys` has verified.
    pub(super) fn put(
        &mut self,
        token: TokenDigest,
        (subject, validity): (Subject, Validity),
        key: &Key,
        keys: &Arc<KeySet>,
    ) {
        // Another request may have met newer keys since. Then the entry would be dropped with the next one.
        self.turn_to(keys);
        self.insert(token, Entry { subject, validity, key: key.print() });
    }

    fn insert(&mut self, token: TokenDigest, entry: Entry) {
        if self.young.len() >= self.half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, entry);
    }

    fn turn_to(&mut self, keys: &Arc<KeySet>) {
        if self.keys.as_ref().is_some_and(|known| Arc::ptr_eq(known, keys)) {
            return;
        }
        for half in [&mut self.young, &mut self.old] {
            half.retain(|_, entry| keys.has(entry.key));
        }
        self.keys = Some(Arc::clone(keys));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}
