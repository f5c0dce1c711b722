//! A place in the queue of a key.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::{Line, Lines, Mailbox, News, Slot};
use crate::idempotency::identity::Identity;
use crate::idempotency::key::Key;
use crate::sync::{Mutex, Ordering, lock};

/// A place in the queue of a key. Dropping it leaves the queue.
pub(in crate::idempotency) struct Place<'a, V> {
    lines: &'a Lines<V>,
    key: Key,
    number: u64,
    slot: Arc<Slot<V>>,
}

/// The next step of the first waiter of a queue.
pub(in crate::idempotency) struct Turn {
    /// `true` if a call of this process has the key.
    pub(in crate::idempotency) owned: bool,
    /// When the lease of that call ends.
    pub(in crate::idempotency) until: Instant,
}

impl<'a, V> Place<'a, V> {
    /// Joins the queue of `identity` at its end. The key is claimed until `until`.
    pub(in crate::idempotency) fn join(
        lines: &'a Lines<V>,
        identity: &Identity,
        until: Instant,
    ) -> Self {
        // Counted before the store is asked again. See `concerns`.
        lines.waiting.fetch_add(1, Ordering::Relaxed);
        let mailbox = Mutex::new(Mailbox { news: None, waker: None });
        let slot = Arc::new(Slot { fingerprint: identity.fingerprint, mailbox });
        let number = lines.with(&identity.key, |all| {
            let fresh = || Line { owner: None, until, places: BTreeMap::new() };
            let line = all.entry(identity.key.clone()).or_insert_with(fresh);
            // Under the lock of the queue, so that numbers are in the order of arrival.
            let number = lines.next.fetch_add(1, Ordering::Relaxed);
            line.places.insert(number, slot.clone());
            number
        });
        Self { lines, key: identity.key.clone(), number, slot }
    }

    /// Records the end of the lease on the key, as the store reported it.
    pub(in crate::idempotency) fn learned(&self, until: Instant) {
        self.lines.with(&self.key, |lines| {
            if let Some(line) = lines.get_mut(&self.key) {
                line.until = until;
            }
        });
    }

    /// Returns `true` if a call of this process has the key.
    pub(in crate::idempotency) fn is_owned(&self) -> bool {
        self.lines
            .with(&self.key, |lines| lines.get(&self.key).is_some_and(|line| line.owner.is_some()))
    }

    /// Returns the last known end of the lease on the key.
    pub(in crate::idempotency) fn until(&self) -> Option<Instant> {
        self.lines.with(&self.key, |lines| lines.get(&self.key).map(|line| line.until))
    }

    /// Returns the next step of the first waiter. `None` for other waiters.
    pub(in crate::idempotency) fn turn(&self) -> Option<Turn> {
        self.lines.with(&self.key, |lines| {
            let line = lines.get(&self.key)?;
            let (first, _) = line.places.first_key_value()?;
            let turn = Turn { owned: line.owner.is_some(), until: line.until };
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
        let served = self.lines.with(&self.key, |lines| {
            let Some(line) = lines.get_mut(&self.key) else { return Vec::new() };
            let own = line.places.remove(&self.number);
            let served = line.take(self.slot.fingerprint);
            // The place returns to the queue, so that leaving finds it like every other place.
            // Exception: another call served it while the store was asked, and it is no longer
            // counted.
            line.places.extend(own.map(|own| (self.number, own)));
            served
        });
        self.lines.waiting.fetch_sub(served.len(), Ordering::Relaxed);
        for slot in served {
            slot.notify(News::Answer(value.clone()));
        }
    }
}

impl<V> Drop for Place<'_, V> {
    fn drop(&mut self) {
        let next = self.lines.with(&self.key, |lines| {
            let Entry::Occupied(mut entry) = lines.entry(self.key.clone()) else { return None };
            let line = entry.get_mut();
            let was_first = line.places.keys().next() == Some(&self.number);
            // A served waiter has left the queue already.
            line.places.remove(&self.number)?;
            self.lines.waiting.fetch_sub(1, Ordering::Relaxed);
            let owned = line.owner.is_some();
            let first = line.first();
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
