//! A place in the line of a key.

use std::collections::BTreeMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use super::{Line, Lines, News, Slot, Told};
use crate::idempotency::identity::Identity;
use crate::idempotency::key::Key;
use crate::sync::{Mutex, Ordering, lock};

/// A place in the line of a key. Dropping it leaves the line.
pub(in crate::idempotency) struct Place<'a, V> {
    lines: &'a Lines<V>,
    key: Key,
    number: u64,
    slot: Arc<Slot<V>>,
}

/// What whoever is the first of a line does next.
pub(in crate::idempotency) struct Turn {
    /// Whether a call of this process has the key.
    pub(in crate::idempotency) owned: bool,
    /// When its lease ends.
    pub(in crate::idempotency) until: Instant,
}

impl<'a, V> Place<'a, V> {
    /// Returns the last place of the line of `identity`, whose key is claimed until `until`.
    pub(in crate::idempotency) fn join(
        lines: &'a Lines<V>,
        identity: &Identity,
        until: Instant,
    ) -> Self {
        // Before the store is asked again: see `concerns`.
        lines.waiting.fetch_add(1, Ordering::Relaxed);
        let told = Mutex::new(Told { news: None, waker: None });
        let slot = Arc::new(Slot { fingerprint: identity.fingerprint, told });
        let number = lines.with(&identity.key, |all| {
            let fresh = || Line { owner: None, until, places: BTreeMap::new() };
            let line = all.entry(identity.key.clone()).or_insert_with(fresh);
            // Under the lock of the line, so that its numbers are in the order of their coming.
            let number = lines.next.fetch_add(1, Ordering::Relaxed);
            line.places.insert(number, slot.clone());
            number
        });
        Self { lines, key: identity.key.clone(), number, slot }
    }

    /// Whoever has the key has it until `until`, as the store says.
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

    /// When the lease of whoever has the key ends, as far as is known.
    pub(in crate::idempotency) fn until(&self) -> Option<Instant> {
        self.lines.with(&self.key, |lines| lines.get(&self.key).map(|line| line.until))
    }

    /// What there is to do for the first of the line; `None` for others.
    pub(in crate::idempotency) fn turn(&self) -> Option<Turn> {
        self.lines.with(&self.key, |lines| {
            let line = lines.get(&self.key)?;
            let (first, _) = line.places.first_key_value()?;
            let turn = Turn { owned: line.owner.is_some(), until: line.until };
            (*first == self.number).then_some(turn)
        })
    }

    /// What this waiter is told; it is woken then.
    pub(in crate::idempotency) fn poll(&self, cx: &mut Context<'_>) -> Poll<News<V>> {
        let mut told = lock(&self.slot.told);
        if let Some(news) = told.news.take() {
            return Poll::Ready(news);
        }
        let old = match &told.waker {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            _ => told.waker.replace(cx.waker().clone()),
        };
        drop(told);
        drop(old);
        Poll::Pending
    }
}

impl<V: Clone> Place<'_, V> {
    /// The store has an answer: it goes to all who wait for the same, this one apart.
    pub(in crate::idempotency) fn found(self, value: &V) {
        let served = self.lines.with(&self.key, |lines| {
            let Some(line) = lines.get_mut(&self.key) else { return Vec::new() };
            let own = line.places.remove(&self.number);
            let served = line.take(self.slot.fingerprint);
            // It comes back, so that leaving finds this place as it finds every other; unless it was
            // served while the store was asked, and is counted out already.
            line.places.extend(own.map(|own| (self.number, own)));
            served
        });
        self.lines.waiting.fetch_sub(served.len(), Ordering::Relaxed);
        for slot in served {
            slot.tell(News::Answer(value.clone()));
        }
    }
}

impl<V> Drop for Place<'_, V> {
    fn drop(&mut self) {
        let next = self.lines.with(&self.key, |lines| {
            let Entry::Occupied(mut entry) = lines.entry(self.key.clone()) else { return None };
            let line = entry.get_mut();
            let was_first = line.places.keys().next() == Some(&self.number);
            // Whoever was served is out of the line already.
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
            // Its lease is now the first's to watch.
            Some((first, true)) => first.nudge(),
            Some((first, false)) => first.tell(News::Look),
            None => {}
        }
    }
}
