//! The places of a queue: the waiters in their order, and the cost ahead of each.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;
use std::time::{Duration, Instant};

#[derive(Default)]
pub(super) struct Places {
    /// The waiters by number, in the order of their arrival. The `before` of each, plus its `cost`,
    /// is the `before` of the next.
    waiting: BTreeMap<u64, Entry>,
    /// Waiters whose grant expired, and that have not polled since.
    aside: BTreeMap<u64, Entry>,
    /// The deadlines of all waiters, the ones set aside included.
    deadlines: BTreeSet<(Instant, u64)>,
    next: u64,
    peak: usize,
    /// The `before` of the next newcomer.
    entered: u64,
    gone: u64,
}

pub(super) struct Entry {
    pub cost: u32,
    /// The cost of all earlier entries, since the queue was created.
    before: u64,
    pub deadline: Option<Instant>,
    pub claim: Option<Duration>,
    /// `None` until the waiter is polled.
    pub waker: Option<Waker>,
    /// When the waiter will poll by itself.
    pub looks_at: Option<Instant>,
}

impl Places {
    /// Returns `true` if no waiter is in the queue.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Returns how many waiters have a place, the ones set aside included.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.aside.len()
    }

    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    /// Returns the cost of all waiters in the queue.
    pub(super) fn owed(&self) -> u64 {
        self.entered - self.gone
    }

    pub(super) fn head(&mut self) -> Option<(u64, &mut Entry)> {
        self.waiting.first_entry().map(|head| (*head.key(), head.into_mut()))
    }

    /// Returns a waiter in the queue, and the cost of the waiters ahead of it.
    pub(super) fn get(&mut self, number: u64) -> Option<(u64, &mut Entry)> {
        let entry = self.waiting.get_mut(&number)?;
        Some((entry.before - self.gone, entry))
    }

    pub(super) fn first_deadline(&self) -> Option<(Instant, u64)> {
        self.deadlines.first().copied()
    }

    pub(super) fn enter(
        &mut self,
        cost: u32,
        deadline: Option<Instant>,
        claim: Option<Duration>,
    ) -> u64 {
        let number = self.next;
        self.next += 1;
        let entry = Entry { cost, before: 0, deadline, claim, waker: None, looks_at: None };
        self.insert(number, entry);
        self.deadlines.extend(deadline.map(|deadline| (deadline, number)));
        self.peak = self.peak.max(self.len());
        number
    }

    /// Keeps the place of a waiter that is set aside.
    pub(super) fn set_aside(&mut self, number: u64, entry: Entry) {
        self.deadlines.extend(entry.deadline.map(|deadline| (deadline, number)));
        self.aside.insert(number, entry);
    }

    /// Returns a waiter that was set aside to its place in the queue. Returns `false` if it was not
    /// set aside.
    pub(super) fn come_back(&mut self, number: u64) -> bool {
        let Some(entry) = self.aside.remove(&number) else { return false };
        self.insert(number, entry);
        true
    }

    fn insert(&mut self, number: u64, mut entry: Entry) {
        let cost = u64::from(entry.cost);
        let mut behind = self.waiting.range_mut(number..).map(|(_, behind)| &mut behind.before);
        entry.before = match behind.next() {
            Some(next) => std::mem::replace(next, *next + cost),
            None => self.entered,
        };
        behind.for_each(|before| *before += cost);
        self.entered += cost;
        self.waiting.insert(number, entry);
    }

    pub(super) fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = match self.waiting.remove(&number) {
            Some(entry) => {
                let cost = u64::from(entry.cost);
                if self.is_first(number) {
                    self.gone += cost;
                } else {
                    let behind = self.waiting.range_mut(number..);
                    behind.for_each(|(_, behind)| behind.before -= cost);
                    self.entered -= cost;
                }
                entry
            }
            None => self.aside.remove(&number)?,
        };
        if let Some(deadline) = entry.deadline {
            self.deadlines.remove(&(deadline, number));
        }
        Some(entry)
    }

    /// Returns `true` if no waiter in the queue has a smaller number.
    fn is_first(&self, number: u64) -> bool {
        self.waiting.first_key_value().is_none_or(|(first, _)| *first > number)
    }
}
