//! Entries, and the lists of claims and results by age.

use std::time::Instant;

use super::{Entry, NONE, Table};
use crate::idempotency::store::KeyClaim;

impl<V> Table<V> {
    pub(super) fn insert(&mut self, claim: &KeyClaim<'_>, until: Instant) {
        let KeyClaim { key, id, fingerprint } = *claim;
        let place = match self.free.pop() {
            Some(place) => place,
            None => {
                self.entries.push(Entry::gap(until));
                self.entries.len() as u32 - 1
            }
        };
        if let Some(entry) = self.entries.get_mut(place as usize) {
            entry.key = Some(key.clone());
            entry.claim = id;
            entry.fingerprint = fingerprint;
            entry.until = until;
        }
        self.chain(place, key);
        self.link(place);
    }

    pub(super) fn remove(&mut self, place: u32) -> Option<V> {
        self.unlink(place);
        let entry = self.entries.get_mut(place as usize)?;
        let key = entry.key.take()?;
        let value = entry.work.take();
        self.unchain(place, &key);
        self.free.push(place);
        value
    }

    /// Makes an unlisted entry the newest of its list.
    #[inline]
    pub(super) fn link(&mut self, place: u32) {
        let Some(entry) = self.entries.get_mut(place as usize) else { return };
        let list = if entry.work.is_done() { &mut self.results } else { &mut self.claims };
        entry.newer = NONE;
        entry.older = list.ends.newest;
        let second = std::mem::replace(&mut list.ends.newest, place);
        list.len += 1;
        if second == NONE {
            list.ends.oldest = place;
        } else if let Some(second) = self.entries.get_mut(second as usize) {
            second.newer = place;
        }
    }

    /// Removes an entry from its list.
    #[inline]
    pub(super) fn unlink(&mut self, place: u32) {
        let Some(entry) = self.entries.get(place as usize) else { return };
        let neighbours = (entry.newer, entry.older);
        if let Some(scopes) = &mut self.scopes {
            scopes.leave(place);
        }
        let list = if entry.work.is_done() { &mut self.results } else { &mut self.claims };
        list.len -= 1;
        list.ends.unlink(&mut self.entries, neighbours, Entry::neighbours);
    }
}
