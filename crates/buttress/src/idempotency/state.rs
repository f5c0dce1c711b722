//! Claims and results by key: the decisions of a store in memory, at a given time.

use std::time::{Duration, Instant};

use super::key::{Fingerprint, Key};
use super::store::{ClaimId, Claimed, KeyClaim, Size};
use crate::vocabulary::clock;

mod chains;
mod links;
mod lists;
mod scopes;

use links::Ends;
use scopes::Scopes;

/// Every operation takes constant time, except sweeping and the first result with a scope.
pub(super) struct Table<V> {
    entries: Vec<Entry<V>>,
    /// The first entry of each chain. A power of two of them, at least as many as entries.
    heads: Vec<u32>,
    /// Places without an entry.
    free: Vec<u32>,
    /// Lists in the order of the last renewal, and of the completion.
    claims: List,
    results: List,
    /// The number of results per scope. `None` until a result has a scope: all keys without a scope
    /// share one, and need no count.
    scopes: Option<Box<Scopes>>,
    capacity: usize,
    evicted: u64,
    /// Where the next claim looks for an expired entry.
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
    /// The next entry of the chain.
    next: u32,
}

/// The progress of a key's work.
enum Work<V> {
    InFlight,
    Done(V),
    /// Done, and the result is not kept.
    NotKept,
}

impl<V> Work<V> {
    const fn is_done(&self) -> bool {
        !matches!(self, Self::InFlight)
    }

    /// Sets the work to in flight. Returns the result, if there was one.
    fn take(&mut self) -> Option<V> {
        match std::mem::replace(self, Self::InFlight) {
            Self::Done(value) => Some(value),
            Self::InFlight | Self::NotKept => None,
        }
    }
}

#[derive(Clone, Copy)]
struct List {
    ends: Ends,
    len: usize,
}

/// The value for "no entry".
const NONE: u32 = u32::MAX;
/// A removed value, which the caller drops after the lock is released.
pub(super) type Removed<V> = Option<V>;

/// Error: the claim does not hold the key.
#[derive(Debug, PartialEq)]
pub(super) struct Fenced;

impl<V> Entry<V> {
    /// Creates a place without an entry.
    const fn gap(until: Instant) -> Self {
        let claim = ClaimId::new(0);
        let work = Work::InFlight;
        let (newer, older, next) = (NONE, NONE, NONE);
        Self { key: None, claim, fingerprint: None, until, work, newer, older, next }
    }

    const fn neighbours(&mut self) -> (&mut u32, &mut u32) {
        (&mut self.newer, &mut self.older)
    }
}

impl<V> Table<V> {
    pub(super) fn new(capacity: usize) -> Self {
        let empty = List { ends: Ends::EMPTY, len: 0 };
        Self {
            entries: Vec::new(),
            heads: Vec::new(),
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

    /// Values are cloned before anything changes: the clone runs code of the user, and may panic.
    #[inline]
    pub(super) fn claim(
        &mut self,
        claim: &KeyClaim<'_>,
        lease: Duration,
        now: Instant,
        removed: &mut Removed<V>,
    ) -> Claimed<V>
    where
        V: Clone,
    {
        let KeyClaim { key, id, fingerprint } = *claim;
        let Some(place) = self.find(key) else {
            // (absent) => in flight
            self.tidy(now, removed);
            self.insert(claim, clock::after(now, lease));
            return Claimed::Owned;
        };
        let Some(entry) = self.entries.get_mut(place as usize) else {
            // Unreachable: a place has an entry. Without a known owner, the handler must not run.
            debug_assert!(false, "the place of a key has no entry");
            return Claimed::InFlight { lease_left: lease };
        };
        if entry.until > now {
            let differs = match (entry.fingerprint, fingerprint) {
                (Some(known), Some(fingerprint)) => known != fingerprint,
                _ => false,
            };
            match &entry.work {
                // In flight => in flight: the same claim is repeated.
                Work::InFlight if entry.claim == id => {}
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
        entry.claim = id;
        entry.fingerprint = fingerprint;
        self.unlink(place);
        *removed = self.entries.get_mut(place as usize).and_then(|entry| entry.work.take());
        self.link(place);
        Claimed::Owned
    }

    pub(super) fn renew(
        &mut self,
        claim: &KeyClaim<'_>,
        lease: Duration,
        now: Instant,
    ) -> Result<(), Fenced> {
        let place = self.held(claim).ok_or(Fenced)?;
        self.unlink(place);
        if let Some(entry) = self.entries.get_mut(place as usize) {
            entry.until = clock::after(now, lease);
        }
        self.link(place);
        Ok(())
    }

    /// Stores a result. Returns the evicted result, if there is one, or the repeated value.
    #[inline]
    pub(super) fn complete(
        &mut self,
        claim: &KeyClaim<'_>,
        value: V,
        lifetime: Duration,
        now: Instant,
    ) -> Result<Option<V>, Fenced> {
        let Some(place) = self.held(claim) else {
            let repeated = self.outcome(claim, now).is_some();
            return if repeated { Ok(Some(value)) } else { Err(Fenced) };
        };
        Ok(self.finish(place, Work::Done(value), clock::after(now, lifetime)))
    }

    /// Completes like [`complete`](Self::complete), without a result.
    pub(super) fn complete_without(
        &mut self,
        claim: &KeyClaim<'_>,
        lifetime: Duration,
        now: Instant,
    ) -> Result<Option<V>, Fenced> {
        let Some(place) = self.held(claim) else {
            let entry = self.find(claim.key).and_then(|place| self.entries.get(place as usize));
            let repeated = entry.is_some_and(|entry| {
                entry.claim == claim.id && entry.until > now && matches!(entry.work, Work::NotKept)
            });
            return if repeated { Ok(None) } else { Err(Fenced) };
        };
        Ok(self.finish(place, Work::NotKept, clock::after(now, lifetime)))
    }

    /// In flight => done. Returns the evicted result, if there is one.
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
        self.remove(victim.unwrap_or(self.results.ends.oldest))
    }

    #[inline]
    fn has_scope(&self, place: u32) -> bool {
        let entry = self.entries.get(place as usize);
        entry.and_then(|entry| entry.key.as_ref()).is_some_and(Key::has_scope)
    }

    /// Counts a result, which is the newest, for its scope. The first result with a scope counts
    /// all earlier results first, once in the life of a table.
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
        let mut next = results.ends.oldest;
        while let Some(entry) = entries.get(next as usize) {
            if let Some(key) = &entry.key {
                all.enter(next, key.scope());
            }
            next = entry.newer;
        }
        *scopes = Some(Box::new(all));
    }

    /// Returns `true` if `claim` holds the key, also after the end of its lease.
    pub(super) fn holds(&self, claim: &KeyClaim<'_>) -> bool {
        self.held(claim).is_some()
    }

    pub(super) fn release(&mut self, claim: &KeyClaim<'_>) {
        if let Some(place) = self.held(claim) {
            // In flight => (absent)
            self.remove(place);
        }
    }

    pub(super) fn outcome(&self, claim: &KeyClaim<'_>, now: Instant) -> Option<&V> {
        let entry = self.entries.get(self.find(claim.key)? as usize)?;
        if entry.claim != claim.id || entry.until <= now {
            return None;
        }
        match &entry.work {
            Work::Done(value) => Some(value),
            Work::InFlight | Work::NotKept => None,
        }
    }

    /// Removes up to `limit` expired entries at and after place `from`. Returns where to continue,
    /// if entries are left. It examines a bounded number of entries, so that other operations do
    /// not wait long.
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

    /// Removes the oldest claim and the oldest result if they have expired, so that entries leave
    /// as fast as they come. With different lifetimes other entries may expire earlier; the cursor
    /// finds those.
    #[inline]
    fn tidy(&mut self, now: Instant, removed: &mut Removed<V>) {
        for oldest in [self.claims.ends.oldest, self.results.ends.oldest] {
            // A claim leaves no value, so no removed value is overwritten.
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

    /// Returns the place of the key if `claim` holds it in flight.
    #[inline(always)]
    fn held(&self, claim: &KeyClaim<'_>) -> Option<u32> {
        // The claim of a handler that ends immediately is still the newest one.
        let newest = self.claims.ends.newest;
        match self.entries.get(newest as usize) {
            Some(entry) if entry.claim == claim.id && entry.key.as_ref() == Some(claim.key) => {
                Some(newest)
            }
            _ => self.held_for_long(claim.key, claim.id),
        }
    }

    fn held_for_long(&self, key: &Key, id: ClaimId) -> Option<u32> {
        let place = self.find(key)?;
        let entry = self.entries.get(place as usize)?;
        (entry.claim == id && !entry.work.is_done()).then_some(place)
    }
}
