//! The calls of this process that wait for a call with the same key: one queue per key.
//!
//! The first waiter of a queue acts for the whole queue. While a call of this process has the key, it
//! waits to be woken, or for the end of that call's lease. Otherwise it asks the store at an
//! interval. All waiters get the answer that it finds, or the answer of the call that has the key.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::hash::BuildHasherDefault;
use std::sync::Arc;
use std::task::Waker;
use std::time::Instant;

use super::key::{Fingerprint, Hashed, Key};
use super::owner::Owner;
use super::store::ClaimId;
use crate::sync::{AtomicU64, AtomicUsize, Mutex, Ordering, lock};

mod place;

pub(super) use place::{Place, Turn};

const SHARDS: usize = 16;

/// The waiters of a layer.
pub(super) struct Waiters<V> {
    shards: [Mutex<Shard<V>>; SHARDS],
    waiting: AtomicUsize,
    /// The number of the next place. All waiters share the sequence: a place can outlive its queue,
    /// and must not equal a place in the next queue of its key.
    next: AtomicU64,
}

type Shard<V> = HashMap<Key, Queue<V>, BuildHasherDefault<Hashed>>;

struct Queue<V> {
    /// The claim of the call of this process that has the key, if it is known.
    owner: Option<ClaimId>,
    /// The last known end of the lease on the key.
    until: Instant,
    /// In the order of their arrival.
    places: BTreeMap<u64, Arc<Slot<V>>>,
}

/// The mailbox of one waiter.
struct Slot<V> {
    fingerprint: Option<Fingerprint>,
    mailbox: Mutex<Mailbox<V>>,
}

struct Mailbox<V> {
    news: Option<News<V>>,
    waker: Option<Waker>,
}

/// The end of a wait.
pub(super) enum News<V> {
    /// The answer.
    Answer(V),
    /// The waiter must ask the store.
    Look,
}

impl<V> Waiters<V> {
    pub(super) fn new() -> Self {
        let shards = std::array::from_fn(|_| Mutex::new(HashMap::default()));
        Self { shards, waiting: AtomicUsize::new(0), next: AtomicU64::new(0) }
    }

    /// Returns how many calls wait.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Records that a call of this process has the key, until `until` unless its claim is renewed.
    pub(super) fn own(&self, owner: &Owner, until: Instant) {
        let (key, owner) = (&owner.identity.key, Some(owner.id));
        self.with(key, |queues| match queues.entry(key.clone()) {
            Entry::Occupied(mut queue) => {
                let queue = queue.get_mut();
                (queue.owner, queue.until) = (owner, until);
            }
            Entry::Vacant(place) => {
                place.insert(Queue { owner, until, places: BTreeMap::new() });
            }
        });
    }

    /// Records the new end of the owner's lease.
    pub(super) fn renewed(&self, owner: &Owner, until: Instant) {
        let (key, claim) = (&owner.identity.key, owner.id);
        self.with(key, |queues| {
            if let Some(queue) = queues.get_mut(key).filter(|queue| queue.owner == Some(claim)) {
                queue.until = until;
            }
        });
    }

    /// Makes the first waiter ask the store, because the call that had the key ended without an
    /// answer for the waiters.
    #[inline]
    pub(super) fn left(&self, owner: &Owner) {
        if self.concerns(owner) {
            self.leave(owner);
        }
    }

    /// Returns `true` if a waiter may need the end of this call. A waiter is counted before the
    /// store reports to it that the key is in flight. This check runs after the store was notified
    /// of the end. So either the check sees the waiter, or the waiter sees the end.
    #[inline]
    fn concerns(&self, owner: &Owner) -> bool {
        owner.listed || self.waiting() > 0
    }

    #[inline(never)]
    fn leave(&self, owner: &Owner) {
        let (key, claim) = (&owner.identity.key, owner.id);
        let first = self.with(key, |queues| {
            let Entry::Occupied(mut entry) = queues.entry(key.clone()) else { return None };
            let queue = entry.get_mut();
            if queue.is_anothers(claim) {
                return None;
            }
            queue.owner = None;
            let first = queue.first();
            if first.is_none() {
                entry.remove();
            }
            first
        });
        if let Some(first) = first {
            first.notify(News::Look);
        }
    }

    fn with<T>(&self, key: &Key, f: impl FnOnce(&mut Shard<V>) -> T) -> T {
        // Other bits than the map uses.
        let [first, ..] = &self.shards;
        let shard = self.shards.get((key.hash() >> 40) as usize % SHARDS).unwrap_or(first);
        f(&mut lock(shard))
    }
}

impl<V: Clone> Waiters<V> {
    /// Passes `value`, the answer of the call that had the key, to all waiters for the same
    /// request.
    #[inline]
    pub(super) fn answered(&self, owner: &Owner, value: V) {
        if self.concerns(owner) {
            self.hand_on(owner, value);
        }
    }

    #[inline(never)]
    fn hand_on(&self, owner: &Owner, value: V) {
        let (key, claim) = (&owner.identity.key, owner.id);
        let (served, first) = self.with(key, |queues| {
            let Entry::Occupied(mut entry) = queues.entry(key.clone()) else {
                return (Vec::new(), None);
            };
            let queue = entry.get_mut();
            if queue.is_anothers(claim) {
                return (Vec::new(), None);
            }
            queue.owner = None;
            let served = queue.take(owner.identity.fingerprint);
            let first = queue.first();
            if first.is_none() {
                entry.remove();
            }
            (served, first)
        });
        self.waiting.fetch_sub(served.len(), Ordering::Relaxed);
        notify_all(served, value, first);
    }
}

/// Passes `value` to the served waiters, and makes the first of the other waiters ask the store.
fn notify_all<V: Clone>(served: Vec<Arc<Slot<V>>>, value: V, first: Option<Arc<Slot<V>>>) {
    for slot in served {
        slot.notify(News::Answer(value.clone()));
    }
    if let Some(first) = first {
        first.notify(News::Look);
    }
}

impl<V> Queue<V> {
    /// Returns `true` if a call of this process with another claim than `claim` has the key.
    fn is_anothers(&self, claim: ClaimId) -> bool {
        self.owner.is_some_and(|owner| owner != claim)
    }

    fn first(&self) -> Option<Arc<Slot<V>>> {
        self.places.values().next().cloned()
    }

    /// Removes and returns the waiters for the same request. Other waiters have to ask the store
    /// themselves.
    fn take(&mut self, fingerprint: Option<Fingerprint>) -> Vec<Arc<Slot<V>>> {
        let mut served = Vec::new();
        self.places.retain(|_, slot| {
            let same = slot.fingerprint == fingerprint;
            if same {
                served.push(slot.clone());
            }
            !same
        });
        served
    }
}

impl<V> Slot<V> {
    fn notify(&self, news: News<V>) {
        let (waker, old) = {
            let mut mailbox = lock(&self.mailbox);
            (mailbox.waker.take(), mailbox.news.replace(news))
        };
        drop(old);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Wakes the waiter without news, so that it checks its place again.
    fn nudge(&self) {
        let waker = lock(&self.mailbox).waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

#[cfg(all(test, buttress_loom))]
mod loom_tests;
