//! The entry of a key: chains of entries whose hashes end in the same bits.
//!
//! The links are in the entries. So a key is stored once, and an operation reads the table of heads
//! and the entry itself. A map beside the entries would store each key a second time.

use super::{Entry, NONE, Table};
use crate::idempotency::key::Key;

impl<V> Table<V> {
    #[inline]
    pub(super) fn find(&self, key: &Key) -> Option<u32> {
        let mut place = self.heads.get(self.head(key)).copied().unwrap_or(NONE);
        while let Some(entry) = self.entries.get(place as usize) {
            if entry.key.as_ref() == Some(key) {
                return Some(place);
            }
            place = entry.next;
        }
        None
    }

    /// Makes the entry at `place`, which has `key` and is in no chain, the first of its chain.
    #[inline]
    pub(super) fn chain(&mut self, place: u32, key: &Key) {
        if self.heads.len() < self.entries.len() {
            return self.spread();
        }
        let head = self.head(key);
        let Some(head) = self.heads.get_mut(head) else { return };
        if let Some(entry) = self.entries.get_mut(place as usize) {
            entry.next = std::mem::replace(head, place);
        }
    }

    /// Removes the entry at `place`, which has or had `key`, from its chain.
    #[inline]
    pub(super) fn unchain(&mut self, place: u32, key: &Key) {
        let next = self.entries.get(place as usize).map_or(NONE, |entry| entry.next);
        let head = self.head(key);
        let Some(head) = self.heads.get_mut(head) else { return };
        if *head == place {
            *head = next;
            return;
        }
        let mut before = *head;
        while let Some(entry) = self.entries.get_mut(before as usize) {
            if entry.next == place {
                entry.next = next;
                return;
            }
            before = entry.next;
        }
    }

    /// Doubles the number of chains, and puts every entry into its chain.
    #[cold]
    fn spread(&mut self) {
        self.heads = vec![NONE; self.entries.len().next_power_of_two()];
        let mask = self.heads.len() - 1;
        for (place, Entry { key, next, .. }) in self.entries.iter_mut().enumerate() {
            let Some(key) = key else { continue };
            if let Some(head) = self.heads.get_mut(key.hash() as usize & mask) {
                *next = std::mem::replace(head, place as u32);
            }
        }
    }

    /// Returns the index of the chain of `key`. The number of chains is a power of two, or 0: then
    /// the index is out of range.
    #[inline]
    fn head(&self, key: &Key) -> usize {
        key.hash() as usize & self.heads.len().wrapping_sub(1)
    }
}

#[cfg(all(test, not(buttress_loom)))]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::idempotency::store::{ClaimId, Claimed, KeyClaim};
    use crate::vocabulary::clock::Clock;
    use crate::vocabulary::rng::Rng;

    #[test]
    fn a_random_walk_finds_exactly_the_keys_that_are_held() {
        const KEYS: usize = 300;
        let now = Clock::default().now();
        let rng = Rng::seeded(11);
        let keys: Vec<Key> = (0..KEYS).map(|n| Key::new(&n.to_string()).unwrap()).collect();
        let mut table = Table::<u64>::new(KEYS);
        let mut held = [None; KEYS];
        for step in 1..20_000 {
            let at = rng.between(0, KEYS as u64 - 1) as usize;
            let id = ClaimId::new(step);
            match held[at] {
                Some(owner) => {
                    table.release(&KeyClaim::new(&keys[at], owner));
                    held[at] = None;
                }
                None => {
                    let lease = Duration::from_secs(1);
                    let claim = KeyClaim::new(&keys[at], id);
                    let claimed = table.claim(&claim, lease, now, &mut None);
                    assert_eq!(claimed, Claimed::Owned);
                    held[at] = Some(id);
                }
            }
            if step % 100 == 0 {
                for (key, owner) in keys.iter().zip(held) {
                    let place = table.find(key);
                    assert_eq!(place.is_some(), owner.is_some(), "{key:?} after {step} steps");
                    assert!(owner.is_none_or(|owner| table.holds(&KeyClaim::new(key, owner))));
                }
            }
        }
    }

    #[test]
    fn an_empty_table_finds_nothing() {
        assert_eq!(Table::<u64>::new(1).find(&Key::new("a").unwrap()), None);
    }
}
