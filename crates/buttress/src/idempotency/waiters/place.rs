//! A place in the queue of a key.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::{Mailbox, News, Queue, Slot, Waiters};
use crate::idempotency::identity::Identity;
use crate::idempotency::key::Key;
use crate::sync::{Mutex, Ordering, lock};

/// A place in the queue of a key. Dropping it leaves the queue.
pub(in crate::idempotency) struct Place<'a, V> {
    waiters: &'a Waiters<V>,
    key: Key,
    number: u64,
    slot: Arc<Slot<V>>,
}

/// The next step of the first waiter of a queue.
pub(in crate::idempotency) struct Turn {
    /// `true` if a call of this process has the key.
    pub owned: bool,
    /// When the lease of that call ends.
    pub until: Instant,
}

impl<'a, V> Place<'a, V> {
    /// Joins the queue of `identity` at its end. The key is claimed until `until`.
    pub(in crate::idempotency) fn join(
        waiters: &'a Waiters<V>,
        identity: &Identity,
        until: Instant,
    ) -> Self {
        // Counted before the store is asked again. See `concerns`.
        waiters.waiting.fetch_add(1, Ordering::Relaxed);
        let mailbox = Mutex::new(Mailbox { news: None, waker: None });
        let slot = Arc::new(Slot { fingerprint: identity.fingerprint, mailbox });
        let number = waiters.with(&identity.key, |all| {
            let fresh = || Queue { owner: None, until, places: BTreeMap::new() };
            let queue = all.entry(identity.key.clone()).or_insert_with(fresh);
            // Under the lock of the queue, so that numbers are in the order of arrival.
            let number = waiters.next.fetch_add(1, Ordering::Relaxed);
            queue.places.insert(number, slot.clone());
            number
        });
        Self { waiters, key: identity.key.clone(), number, slot }
    }

    /// Records the end of the lease on the key, as the store reported it.
    pub(in crate::idempotency) fn learned(&self, until: Instant) {
        self.waiters.with(&self.key, |queues| {
            if let Some(queue) = queues.get_mut(&self.key) {
                queue.until = until;
            }
        });
    }

    /// Returns `true` if a call of this process has the key.
    pub(in crate::idempotency) fn is_owned(&self) -> bool {
        self.waiters.with(&self.key, |queues| {
            queues.get(&self.key).is_some_and(|queue| queue.owner.is_some())
        })
    }

    /// Returns the last known end of the lease on the key.
    pub(in crate::idempotency) fn until(&self) -> Option<Instant> {
        self.waiters.with(&self.key, |queues| queues.get(&self.key).map(|queue| queue.until))
    }

    /// Returns the next step of the first waiter. `None` for other waiters.
    pub(in crate::idempotency) fn turn(&self) -> Option<Turn> {
        self.waiters.with(&self.key, |queues| {
            let queue = queues.get(&self.key)?;
            let (first, _) = queue.places.first_key_value()?;
            let turn = Turn { owned: queue.owner.is_some(), until: queue.until };
            (*first == self.number).then_some(turn)
        })
    }

    /// Returns the news for this waiter. If there is none, the waiter is woken when it comes.
    pub(in crate::idempotency) fn poll(&self, cx: &mut Context<'_>) -> Poll<News<V>> {
        let mut mailbox = lock(&self.slot.mailbox);
        if let Some(news) = mailbox.news.take() {
            return Poll::Ready(news);
        }
        let old = match &mailbox.waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => mailbox.waker.replace(cx.waker().clone()),
        };
        drop(mailbox);
        drop(old);
        Poll::Pending
    }
}

impl<V: Clone> Place<'_, V> {
    /// Passes the answer of the store to all other waiters for the same request.
    pub(in crate::idempotency) fn found(self, value: &V) {
        let served = self.waiters.with(&self.key, |queues| {
            let Some(queue) = queues.get_mut(&self.key) else { return Vec::new() };
            let own = queue.places.remove(&self.number);
            let served = queue.take(self.slot.fingerprint);
            // The place returns to the queue, so that leaving finds it like every other place.
            // Exception: another call served it while the store was asked, and it is no longer
            // counted.
            queue.places.extend(own.map(|own| (self.number, own)));
            served
        });
        self.waiters.waiting.fetch_sub(served.len(), Ordering::Relaxed);
        for slot in served {
            slot.notify(News::Answer(value.clone()));
        }
    }
}

impl<V> Drop for Place<'_, V> {
    fn drop(&mut self) {
        let next = self.waiters.with(&self.key, |queues| {
            let Entry::Occupied(mut entry) = queues.entry(self.key.clone()) else { return None };
            let queue = entry.get_mut();
            let was_first = queue.places.keys().next() == Some(&self.number);
            // A served waiter has left the queue already.
            queue.places.remove(&self.number)?;
            self.waiters.waiting.fetch_sub(1, Ordering::Relaxed);
            let owned = queue.owner.is_some();
            let first = queue.first();
            if first.is_none() && !owned {
                entry.remove();
            }
            first.filter(|_| was_first).map(|first| (first, owned))
        });
        match next {
            // The new first waiter must watch the lease of the owner.
            Some((first, true)) => first.nudge(),
            Some((first, false)) => first.notify(News::Look),
            None => {}
        }
    }
}
