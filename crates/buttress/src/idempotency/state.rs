//! Claims and results by key: what a store in memory decides, given the time.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::time::{Duration, Instant};

use super::key::{Fingerprint, Hashed, Key};
use super::store::{ClaimId, Claimed, Size};
use crate::vocabulary::clock;

mod lists;
mod scopes;

use scopes::Scopes;

/// Every operation takes the same time however many entries there are, except sweeping and the first result
/// with a scope.
pub(super) struct Table<V> {
    places: HashMap<Key, u32, BuildHasherDefault<Hashed>>,
    entries: Vec<Entry<V>>,
    /// Places without an entry.
    free: Vec<u32>,
    /// By the time of their last renewal, and by that of their completion.
    claims: List,
    results: List,
    /// Who has how many of the results. `None` until a result has a scope: keys without one are all
    /// of the same scope, and need no accounts.
    scopes: Option<Box<Scopes>>,
    capacity: usize,
    evicted: u64,
    /// Where the next claim looks for what has expired.
    cursor: u32,
}

struct Entry<V> {
    /// `None` for a place without an entry.
    key: Option<Key>,
    claim: ClaimId,
    fingerprint: Option<Fingerprint>,
    /// The end of the lease or of the lifetime.
    until: Instant,
    work: Work<V>,
    newer: u32,
    older: u32,
}

/// How far the work of a key is.
enum Work<V> {
    InFlight,
    Done(V),
    /// Done, and its result is not kept.
    NotKept,
}

impl<V> Work<V> {
    const fn is_done(&self) -> bool {
        !matches!(self, Self::InFlight)
    }

    /// Leaves work in flight; returns the result, if there was one.
    fn take(&mut self) -> Option<V> {
        match std::mem::replace(self, Self::InFlight) {
            Self::Done(value) => Some(value),
            Self::InFlight | Self::NotKept => None,
        }
    }
}

#[derive(Clone, Copy)]
struct List {
    newest: u32,
    oldest: u32,
    len: usize,
}

/// Stands for "no entry".
const NONE: u32 = u32::MAX;
/// What was removed, to be dropped where no lock is held.
pub(super) type Removed<V> = Option<V>;

/// The claim does not hold the key.
#[derive(Debug, PartialEq)]
pub(super) struct Fenced;

impl<V> Entry<V> {
    /// Creates a place without an entry.
    const fn gap(until: Instant) -> Self {
        let claim = ClaimId::new(0);
        let work = Work::InFlight;
        Self { key: None, claim, fingerprint: None, until, work, newer: NONE, older: NONE }
    }
}

impl<V> Table<V> {
    pub(super) fn new(capacity: usize) -> Self {
        let empty = List { newest: NONE, oldest: NONE, len: 0 };
        Self {
            places: HashMap::default(),
            entries: Vec::new(),
            free: Vec::new(),
            claims: empty,
            results: empty,
            scopes: None,
            capacity,
            evicted: 0,
            cursor: 0,
        }
    }

    pub(super) fn size(&self) -> Size {
        let Self { claims, results, evicted, .. } = self;
        Size { in_flight: claims.len, stored: results.len, evicted: *evicted }
    }

    /// Values are cloned before anything is changed: that is the user's code, and may panic.
    #[inline]
    pub(super) fn claim(
        &mut self,
        key: &Key,
        claim: ClaimId,
        fingerprint: Option<Fingerprint>,
        lease: Duration,
        now: Instant,
        removed: &mut Removed<V>,
    ) -> Claimed<V>
    where
        V: Clone,
    {
        let Some(place) = self.find(key) else {
            // (absent) => in flight
            self.tidy(now, removed);
            self.insert(key.clone(), claim, fingerprint, clock::after(now, lease));
            return Claimed::Owned;
        };
        let Some(entry) = self.entries.get_mut(place as usize) else {
            // Never: a place has an entry. The handler must not run if it is not known who has the key.
            debug_assert!(false, "the place of a key has no entry");
            return Claimed::InFlight { lease_left: lease };
        };
        if entry.until > now {
            let differs = match (entry.fingerprint, fingerprint) {
                (Some(known), Some(fingerprint)) => known != fingerprint,
                _ => false,
            };
            match &entry.work {
                // In flight => in flight: the same claim once more.
                Work::InFlight if entry.claim == claim => {}
                _ if differs => return Claimed::Mismatch,
                Work::Done(value) => return Claimed::Done(value.clone()),
                Work::NotKept => return Claimed::NotKept,
                Work::InFlight => {
                    return Claimed::InFlight { lease_left: entry.until.duration_since(now) };
                }
            }
        }
        // Expired => in flight
        entry.until = clock::after(now, lease);
        entry.claim = claim;
        entry.fingerprint = fingerprint;
        self.unlink(place);
        *removed = self.entries.get_mut(place as usize).and_then(|entry| entry.work.take());
        self.link(place);
        Claimed::Owned
    }

    pub(super) fn renew(
        &mut self,
        key: &Key,
        claim: ClaimId,
        lease: Duration,
        now: Instant,
    ) -> Result<(), Fenced> {
        let place = self.held(key, claim).ok_or(Fenced)?;
        self.unlink(place);
        if let Some(entry) = self.entries.get_mut(place as usize) {
            entry.until = clock::after(now, lease);
        }
        self.link(place);
        Ok(())
    }

    /// Returns the result that was evicted for it, if one was; or the value that came again.
    #[inline]
    pub(super) fn complete(
        &mut self,
        key: &Key,
        claim: ClaimId,
        value: V,
        lifetime: Duration,
        now: Instant,
    ) -> Result<Option<V>, Fenced> {
        let Some(place) = self.held(key, claim) else {
            let repeated = self.outcome(key, claim, now).is_some();
            return if repeated { Ok(Some(value)) } else { Err(Fenced) };
        };
        Ok(self.finish(place, Work::Done(value), clock::after(now, lifetime)))
    }

    /// As [`complete`](Self::complete), without a result.
    pub(super) fn complete_without(
        &mut self,
        key: &Key,
        claim: ClaimId,
        lifetime: Duration,
        now: Instant,
    ) -> Result<Option<V>, Fenced> {
        let Some(place) = self.held(key, claim) else {
            let entry = self.find(key).and_then(|place| self.entries.get(place as usize));
            let repeated = entry.is_some_and(|entry| {
                entry.claim == claim && entry.until > now && matches!(entry.work, Work::NotKept)
            });
            return if repeated { Ok(None) } else { Err(Fenced) };
        };
        Ok(self.finish(place, Work::NotKept, clock::after(now, lifetime)))
    }

    /// In flight => done. Returns the result that was evicted for it, if one was.
    #[inline(always)]
    fn finish(&mut self, place: u32, work: Work<V>, until: Instant) -> Option<V> {
        self.unlink(place);
        if let Some(entry) = self.entries.get_mut(place as usize) {
            entry.until = until;
            entry.work = work;
        }
        self.link(place);
        if self.scopes.is_some() || self.has_scope(place) {
            self.account(place);
        }
        if self.results.len <= self.capacity {
            return None;
        }
        self.evicted += 1;
        let victim = self.scopes.as_ref().and_then(|scopes| scopes.evictable());
        self.remove(victim.unwrap_or(self.results.oldest))
    }

    #[inline]
    fn has_scope(&self, place: u32) -> bool {
        let entry = self.entries.get(place as usize);
        entry.and_then(|entry| entry.key.as_ref()).is_some_and(Key::has_scope)
    }

    /// Puts a result, which is the newest, to the account of its scope. The first result with a scope has all
    /// others put there before it, once in the life of a table.
    #[inline(never)]
    fn account(&mut self, place: u32) {
        let Self { scopes, entries, results, .. } = self;
        if let Some(scopes) = scopes {
            let entry = entries.get(place as usize);
            if let Some(key) = entry.and_then(|entry| entry.key.as_ref()) {
                scopes.enter(place, key.scope());
            }
            return;
        }
        let mut all = Scopes::default();
        let mut next = results.oldest;
        while let Some(entry) = entries.get(next as usize) {
            if let Some(key) = &entry.key {
                all.enter(next, key.scope());
            }
            next = entry.newer;
        }
        *scopes = Some(Box::new(all));
    }

    /// Returns `true` if `claim` holds the key, its lease run out or not.
    pub(super) fn holds(&self, key: &Key, claim: ClaimId) -> bool {
        self.held(key, claim).is_some()
    }

    pub(super) fn release(&mut self, key: &Key, claim: ClaimId) {
        if let Some(place) = self.held(key, claim) {
            // In flight => (absent)
            self.remove(place);
        }
    }

    pub(super) fn outcome(&self, key: &Key, claim: ClaimId, now: Instant) -> Option<&V> {
        let entry = self.entries.get(self.find(key)? as usize)?;
        if entry.claim != claim || entry.until <= now {
            return None;
        }
        match &entry.work {
            Work::Done(value) => Some(value),
            Work::InFlight | Work::NotKept => None,
        }
    }

    /// Removes up to `limit` expired entries of those at and after place `from`; returns where to go
    /// on, if there is more to look at. Looks at so many entries at most that nobody waits long.
    pub(super) fn sweep(
        &mut self,
        from: usize,
        limit: usize,
        now: Instant,
        removed: &mut Vec<Option<V>>,
    ) -> Option<usize> {
        const AT_ONCE: usize = 1024;
        let end = self.entries.len().min(from.saturating_add(AT_ONCE));
        for place in from..end {
            if removed.len() >= limit {
                return None;
            }
            if self.is_expired(place as u32, now) {
                // Expired => (absent)
                removed.push(self.remove(place as u32));
            }
        }
        (end < self.entries.len()).then_some(end)
    }

    /// Removes the oldest claim and the oldest result, if they have expired: so many entries leave as
    /// come. Where lifetimes differ others have expired before them, which is what the cursor finds.
    #[inline]
    fn tidy(&mut self, now: Instant, removed: &mut Removed<V>) {
        for oldest in [self.claims.oldest, self.results.oldest] {
            // A claim leaves no value, so that nothing is overwritten.
            if self.is_expired(oldest, now) {
                *removed = self.remove(oldest);
            }
        }
        let next = self.cursor;
        self.cursor = if (next as usize) < self.entries.len() { next + 1 } else { 0 };
        if removed.is_none() && self.is_expired(next, now) {
            *removed = self.remove(next);
        }
    }

    #[inline]
    fn is_expired(&self, place: u32, now: Instant) -> bool {
        let entry = self.entries.get(place as usize);
        entry.is_some_and(|entry| entry.until <= now && entry.key.is_some())
    }

    #[inline]
    fn find(&self, key: &Key) -> Option<u32> {
        self.places.get(key).copied()
    }

    /// Returns the place of `key` if `claim` holds it in flight.
    #[inline(always)]
    fn held(&self, key: &Key, claim: ClaimId) -> Option<u32> {
        // That of a handler that ends at once is still the newest claim.
        let newest = self.claims.newest;
        match self.entries.get(newest as usize) {
            Some(entry) if entry.claim == claim && entry.key.as_ref() == Some(key) => Some(newest),
            _ => self.held_for_long(key, claim),
        }
    }

    fn held_for_long(&self, key: &Key, claim: ClaimId) -> Option<u32> {
        let place = self.find(key)?;
        let entry = self.entries.get(place as usize)?;
        (entry.claim == claim && !entry.work.is_done()).then_some(place)
    }
}
