//! What a relay publishes next: messages by key, who is under way, what is to be written down. Pure.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::config::HeadOfKey;
use super::message::{Message, MessageId};
use super::store::{Lease, Owned, Settled, Verdict};

pub(super) mod verdict;

/// The messages a relay holds.
#[derive(Debug, Default)]
pub(super) struct Pending {
    leases: Vec<Lease>,
    /// How many of the leases, from the last, are to be given up.
    surplus: usize,
    /// Keys with a message that is ready or under way.
    lines: HashMap<String, Line>,
    /// Heads of keys nothing is under way of, in the order in which they came.
    ready: VecDeque<Message>,
    /// Suspects of the lease that is looked through, by sequence.
    suspects: BTreeMap<u64, Message>,
    /// Everything held here: waiting, ready, under way, or not written down yet.
    held: HashMap<MessageId, u16>,
    /// Keys with a failure that is not written down yet: the store still thinks they go on.
    failing: HashSet<String>,
    under_way: usize,
    settled: Vec<Settled>,
    /// Ends that the store refuses to record. Their messages are not taken in again.
    aside: HashMap<MessageId, Settled>,
    /// Keys with a suspect whose start the store refuses to record, until nothing is suspect any more.
    passed_over: HashSet<String>,
}

/// With so many ends set aside nothing more is fetched.
const MOST_ASIDE: usize = 100;

/// The messages of a key behind its head.
#[derive(Debug)]
struct Line {
    partition: u16,
    behind: VecDeque<Message>,
    /// The head is under way, or given up and not written down yet; it is not ready.
    under_way: bool,
}

/// What is still known of a message that has been handed to the publisher.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Delivery {
    id: MessageId,
    sequence: u64,
    key: String,
    due_at: Duration,
    pub(super) attempts: u32,
}

impl Delivery {
    pub(super) fn of(message: &Message) -> Self {
        let Message { id, sequence, due_at, attempts, .. } = *message;
        Self { id, sequence, key: message.key.clone(), due_at, attempts }
    }
}

/// What to publish next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Publish(Message, Lease),
    /// Alone, and only after its start was written down.
    Alone(Message, Lease),
}

impl Pending {
    /// What is owned from now on. Messages of partitions that are not, or under another epoch, are
    /// forgotten unless they are under way.
    pub(super) fn own(&mut self, owned: Owned) {
        let before = std::mem::replace(&mut self.leases, owned.leases);
        self.surplus = owned.surplus;
        for old in before {
            if self.lease(old.partition).is_none_or(|lease| lease.epoch != old.epoch) {
                self.forget_partition(old.partition);
            }
        }
        // Nothing else is published until the suspects are through.
        if self.isolating().is_some() {
            self.forget_waiting();
        }
    }

    /// What is owned.
    pub(super) fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// Whether a partition is owned under the same epoch as when `asked` were.
    pub(super) fn still_owns(&self, asked: &[Lease], partition: u16) -> bool {
        let asked = asked.iter().find(|lease| lease.partition == partition);
        asked.is_some_and(|asked| {
            self.lease(partition).is_some_and(|lease| lease.epoch == asked.epoch)
        })
    }

    fn lease(&self, partition: u16) -> Option<Lease> {
        self.leases.iter().find(|lease| lease.partition == partition).copied()
    }

    fn forget_partition(&mut self, partition: u16) {
        // Another relay delivers them again.
        let failing = &mut self.failing;
        self.aside.retain(|_, settled| {
            let keep = settled.lease.partition != partition;
            if !keep {
                failing.remove(&settled.key);
            }
            keep
        });
        let held = &mut self.held;
        let mut keep = |message: &Message| {
            let keep = message.partition != partition;
            if !keep {
                held.remove(&message.id);
            }
            keep
        };
        self.ready.retain(&mut keep);
        self.suspects.retain(|_, message| keep(message));
        self.lines.retain(|_, line| {
            line.behind.retain(&mut keep);
            line.partition != partition || line.under_way
        });
    }

    /// The lease whose suspects must be looked through before anything else is published.
    pub(super) fn isolating(&self) -> Option<Lease> {
        self.leases.iter().find(|lease| lease.suspect_to > 0).copied()
    }

    /// Nothing is suspect any more in this partition, under this epoch.
    pub(super) fn cleared(&mut self, cleared: Lease) {
        let same = |lease: &&mut Lease| {
            (lease.partition, lease.epoch) == (cleared.partition, cleared.epoch)
        };
        for lease in self.leases.iter_mut().filter(same) {
            lease.suspect_to = 0;
        }
        self.passed_over.clear();
    }

    /// The leases to fetch from: all, but for those to be given up; one, while it is looked through.
    pub(super) fn fetch_from(&self) -> Vec<Lease> {
        match self.isolating() {
            Some(lease) => vec![lease],
            None => self.kept().to_vec(),
        }
    }

    fn kept(&self) -> &[Lease] {
        let keep = self.leases.len().saturating_sub(self.surplus);
        self.leases.get(..keep).unwrap_or_default()
    }

    /// Partitions with something that is not settled.
    pub(super) fn busy(&self) -> Vec<u16> {
        let mut busy: Vec<u16> = self.held.values().copied().collect();
        busy.sort_unstable();
        busy.dedup();
        busy
    }

    /// Whether partitions wait to be given up that nothing is under way of.
    pub(super) fn can_give_up(&self) -> bool {
        let mut surplus = self.leases.iter().rev().take(self.surplus);
        surplus.any(|lease| !self.held.values().any(|partition| *partition == lease.partition))
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Takes in what was fetched; returns how many are new. While suspects are looked for, only they
    /// are.
    pub(super) fn take_in(&mut self, messages: Vec<Message>) -> usize {
        let mut new = 0;
        let isolating = self.isolating();
        for message in messages {
            let Some(lease) = self.lease(message.partition) else { continue };
            if self.held.contains_key(&message.id)
                || self.failing.contains(&message.key)
                || self.aside.contains_key(&message.id)
                || self.passed_over.contains(&message.key)
            {
                continue;
            }
            if let Some(suspect) = isolating {
                let is_suspect = lease == suspect && message.sequence <= suspect.suspect_to;
                if is_suspect {
                    self.held.insert(message.id, message.partition);
                    self.suspects.insert(message.sequence, message);
                    new += 1;
                }
                continue;
            }
            self.held.insert(message.id, message.partition);
            new += 1;
            match self.lines.get_mut(&message.key) {
                Some(line) => line.behind.push_back(message),
                None => {
                    let partition = message.partition;
                    let line = Line { partition, behind: VecDeque::new(), under_way: false };
                    self.lines.insert(message.key.clone(), line);
                    self.ready.push_back(message);
                }
            }
        }
        new
    }

    /// The next message that may be published now. It is under way from here on.
    pub(super) fn next(&mut self) -> Option<Next> {
        let next = if self.isolating().is_some() {
            // One at a time, and only when everything else has ended: whoever brings the relay down now
            // is known by name.
            let alone = self.under_way == 0 && self.settled.is_empty();
            let (_, message) = alone.then(|| self.suspects.pop_first()).flatten()?;
            self.lease(message.partition).map(|lease| Next::Alone(message, lease))
        } else {
            let message = self.ready.pop_front()?;
            if let Some(line) = self.lines.get_mut(&message.key) {
                line.under_way = true;
            }
            self.lease(message.partition).map(|lease| Next::Publish(message, lease))
        };
        self.under_way += usize::from(next.is_some());
        next
    }

    /// A delivery has ended; `verdict` is to be written down.
    pub(super) fn ended(&mut self, delivery: Delivery, lease: Lease, verdict: Verdict) {
        self.under_way -= 1;
        match verdict {
            Verdict::Delivered => self.next_of(&delivery.key),
            // Its line stands still until that is written down: should this relay die before, it comes
            // again, and nothing behind it may have overtaken it.
            Verdict::Dead { hold_key: false, .. } => {}
            Verdict::Dead { .. } | Verdict::Retry { .. } => {
                // The messages behind it come again when the key is free.
                self.failing.insert(delivery.key.clone());
                self.forget_line(&delivery.key);
            }
        }
        let Delivery { id, sequence, key, due_at, .. } = delivery;
        self.settled.push(Settled { id, sequence, key, due_at, lease, verdict });
    }

    /// A delivery was given up, because it did not begin or its partition is lost: as if it had never been
    /// fetched.
    pub(super) fn abandoned(&mut self, delivery: &Delivery) {
        self.under_way -= 1;
        self.held.remove(&delivery.id);
        self.forget_line(&delivery.key);
    }

    /// The store refuses to record the start of a suspect, so it is not started, nor is what stands behind
    /// it, as long as its partition has suspects.
    pub(super) fn pass_over(&mut self, delivery: &Delivery) {
        self.abandoned(delivery);
        self.passed_over.insert(delivery.key.clone());
    }

    /// Sets the first of [`settled`](Self::settled) aside, which the store refuses to record. Its key goes
    /// on or is held, as behind a message that has used up its attempts.
    pub(super) fn set_aside(&mut self, policy: HeadOfKey) -> Option<Settled> {
        if self.settled.is_empty() {
            return None;
        }
        let settled = self.settled.remove(0);
        self.held.remove(&settled.id);
        self.failing.remove(&settled.key);
        match policy {
            HeadOfKey::Block => {
                self.failing.insert(settled.key.clone());
                self.forget_line(&settled.key);
            }
            // What waits behind a dead letter stands still until it is recorded.
            HeadOfKey::Continue if matches!(settled.verdict, Verdict::Dead { .. }) => {
                self.next_of(&settled.key);
            }
            HeadOfKey::Continue => {}
        }
        self.aside.insert(settled.id, settled.clone());
        Some(settled)
    }

    pub(super) fn has_aside(&self) -> bool {
        !self.aside.is_empty()
    }

    pub(super) fn aside_count(&self) -> usize {
        self.aside.len()
    }

    pub(super) fn many_aside(&self) -> bool {
        self.aside.len() >= MOST_ASIDE
    }

    /// What was set aside, in the order of the messages.
    pub(super) fn aside(&self) -> Vec<Settled> {
        let mut aside: Vec<Settled> = self.aside.values().cloned().collect();
        aside.sort_unstable_by_key(|settled| settled.sequence);
        aside
    }

    /// The store has recorded what was set aside, or refused it because the partition is lost.
    pub(super) fn recorded_aside(&mut self, id: MessageId) {
        if let Some(settled) = self.aside.remove(&id) {
            self.failing.remove(&settled.key);
        }
    }

    /// Forgets what waits behind a message of `key`, in its line or among the suspects.
    fn forget_line(&mut self, key: &str) {
        for behind in self.lines.remove(key).map(|line| line.behind).unwrap_or_default() {
            self.held.remove(&behind.id);
        }
        let held = &mut self.held;
        self.suspects.retain(|_, suspect| {
            let keep = suspect.key != key;
            if !keep {
                held.remove(&suspect.id);
            }
            keep
        });
    }

    fn next_of(&mut self, key: &str) {
        let Some(line) = self.lines.get_mut(key) else { return };
        line.under_way = false;
        match line.behind.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => drop(self.lines.remove(key)),
        }
    }

    /// Forgets what is not under way.
    pub(super) fn forget_waiting(&mut self) {
        let behind = self.lines.values_mut().flat_map(|line| line.behind.drain(..));
        let suspects = std::mem::take(&mut self.suspects).into_values();
        for message in behind.chain(self.ready.drain(..)).chain(suspects) {
            self.held.remove(&message.id);
        }
        self.lines.retain(|_, line| line.under_way);
    }

    /// What is to be written down.
    pub(super) fn settled(&self) -> &[Settled] {
        &self.settled
    }

    /// The first `count` of [`settled`](Self::settled) are written down, but for those of partitions
    /// that somebody else owns now.
    pub(super) fn written(&mut self, count: usize, refused: &[u16]) -> Vec<Settled> {
        let written: Vec<Settled> = self.settled.drain(..count.min(self.settled.len())).collect();
        for settled in &written {
            self.held.remove(&settled.id);
            match settled.verdict {
                Verdict::Delivered => {}
                Verdict::Dead { hold_key: false, .. } => {
                    if refused.contains(&settled.lease.partition) {
                        // It comes again, and before those behind it.
                        self.forget_line(&settled.key);
                    } else {
                        self.next_of(&settled.key);
                    }
                }
                Verdict::Dead { .. } | Verdict::Retry { .. } => {
                    self.failing.remove(&settled.key);
                }
            }
        }
        for settled in written.iter().filter(|settled| refused.contains(&settled.lease.partition)) {
            // Unless it has come back under a newer epoch.
            let Lease { partition, epoch, .. } = settled.lease;
            if self.lease(partition).is_some_and(|lease| lease.epoch == epoch) {
                self.leases.retain(|lease| lease.partition != partition);
                self.forget_partition(partition);
            }
        }
        written.into_iter().filter(|settled| !refused.contains(&settled.lease.partition)).collect()
    }
}

#[cfg(test)]
#[path = "state/tests.rs"]
mod tests;
