//! The decisions of a relay: the next message per key, the deliveries in flight, the results to
//! record. Pure.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;

use super::message::{Message, MessageId};
use super::store::{Lease, Owned, Settled, Verdict};

mod aside;
mod doubt;
pub(super) mod refusals;
pub(super) mod verdict;

/// The messages that a relay holds in memory.
#[derive(Debug, Default)]
pub(super) struct Pending {
    leases: Vec<Lease>,
    /// How many of the leases, from the last, the relay should release.
    surplus: usize,
    /// Owned partitions that the store may have released: see [`doubt`](Self::doubt).
    doubtful: Vec<u16>,
    /// Keys with a message that is ready or in flight.
    queues: HashMap<String, KeyQueue>,
    /// Heads of keys without a delivery in flight, in the order of their arrival.
    ready: VecDeque<Message>,
    /// Suspects of the partition that is being isolated, by sequence.
    suspects: BTreeMap<u64, Message>,
    /// The partition of each message that is waiting, ready, in flight, or not recorded yet.
    held: HashMap<MessageId, u16>,
    /// Keys with a failure that is not recorded yet. The store does not hold these keys yet.
    failing: HashSet<String>,
    under_way: usize,
    settled: Vec<Settled>,
    /// Results that the store refuses to record. Their messages are not taken in again.
    aside: HashMap<MessageId, Settled>,
    /// Keys with a suspect whose start the store refuses to record. Cleared when no message is
    /// suspect.
    passed_over: HashSet<String>,
}

/// The messages of a key behind its head.
#[derive(Debug)]
struct KeyQueue {
    partition: u16,
    behind: VecDeque<Message>,
    /// The head is in flight, or dead and not recorded yet. It is not ready.
    under_way: bool,
}

/// The data of a message that the relay keeps after the publisher has received it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Delivery {
    pub id: MessageId,
    sequence: u64,
    key: String,
    due_at: Duration,
    pub attempts: u32,
}

impl Delivery {
    pub(super) fn of(message: &Message) -> Self {
        let Message { id, sequence, due_at, attempts, .. } = *message;
        Self { id, sequence, key: message.key.clone(), due_at, attempts }
    }
}

/// The next message to publish.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Next {
    Publish(Message, Lease),
    /// To publish alone, and only after the store has recorded the start.
    Alone(Message, Lease),
}

impl Pending {
    /// Replaces the owned leases. Forgets the messages of partitions that are lost or under another
    /// epoch, unless they are in flight.
    pub(super) fn own(&mut self, owned: Owned) {
        let before = std::mem::replace(&mut self.leases, owned.leases);
        self.surplus = owned.surplus;
        self.doubtful.clear();
        for old in before {
            if self.lease(old.partition).is_none_or(|lease| lease.epoch != old.epoch) {
                self.forget_partition(old.partition);
            }
        }
        // Suspects come before all other messages.
        if self.isolating().is_some() {
            self.forget_waiting();
        } else {
            // The suspects were cleared while the answer that named them was in flight. The relay fetches them again.
            self.forget_suspects();
        }
    }

    /// Returns the owned leases.
    pub(super) fn leases(&self) -> &[Lease] {
        &self.leases
    }

    /// Whether a partition is owned under the epoch that it has in `asked`, without a doubt.
    pub(super) fn still_owns(&self, asked: &[Lease], partition: u16) -> bool {
        let asked = asked.iter().find(|lease| lease.partition == partition);
        let owns =
            |asked: &Lease| self.lease(partition).is_some_and(|lease| lease.epoch == asked.epoch);
        asked.is_some_and(owns) && !self.is_doubtful(partition)
    }

    fn lease(&self, partition: u16) -> Option<Lease> {
        self.leases.iter().find(|lease| lease.partition == partition).copied()
    }

    fn forget_partition(&mut self, partition: u16) {
        // Another relay delivers these messages again.
        let failing = &mut self.failing;
        self.aside.retain(|_, settled| {
            let keep = settled.lease.partition != partition;
            if !keep {
                failing.remove(&settled.key);
            }
            keep
        });
        self.forget_waiting_of(partition);
    }

    /// Forgets the messages of a partition that are not in flight.
    fn forget_waiting_of(&mut self, partition: u16) {
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
        self.queues.retain(|_, queue| {
            queue.behind.retain(&mut keep);
            queue.partition != partition || queue.under_way
        });
    }

    /// Returns the lease whose suspects must be published before all other messages.
    pub(super) fn isolating(&self) -> Option<Lease> {
        self.leases.iter().find(|lease| lease.suspect_to > 0).copied()
    }

    /// Records that this partition has no suspects any more under this epoch.
    pub(super) fn cleared(&mut self, cleared: Lease) {
        let same = |lease: &&mut Lease| {
            (lease.partition, lease.epoch) == (cleared.partition, cleared.epoch)
        };
        for lease in self.leases.iter_mut().filter(same) {
            lease.suspect_to = 0;
        }
        self.passed_over.clear();
        self.forget_suspects();
    }

    /// Returns the leases to fetch from: all except the surplus, or only the lease whose suspects are isolated. Leaves
    /// out doubtful leases.
    pub(super) fn fetch_from(&self) -> Vec<Lease> {
        let isolating = self.isolating();
        let leases = isolating.as_ref().map_or(self.kept(), std::slice::from_ref);
        let sure = leases.iter().filter(|lease| !self.is_doubtful(lease.partition));
        sure.copied().collect()
    }

    fn kept(&self) -> &[Lease] {
        let keep = self.leases.len().saturating_sub(self.surplus);
        self.leases.get(..keep).unwrap_or_default()
    }

    /// Returns the partitions with a message that is not settled.
    pub(super) fn busy(&self) -> Vec<u16> {
        let mut busy: Vec<u16> = self.held.values().copied().collect();
        busy.sort_unstable();
        busy.dedup();
        busy
    }

    /// Whether a surplus partition has no messages held, so that the relay can release it.
    pub(super) fn can_release(&self) -> bool {
        let mut surplus = self.leases.iter().rev().take(self.surplus);
        surplus.any(|lease| !self.held.values().any(|partition| *partition == lease.partition))
    }

    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    pub(super) fn under_way(&self) -> usize {
        self.under_way
    }

    /// Takes in fetched messages, and returns how many are new. During isolation it takes only
    /// suspects.
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
            match self.queues.get_mut(&message.key) {
                Some(queue) => queue.behind.push_back(message),
                None => {
                    let partition = message.partition;
                    let queue = KeyQueue { partition, behind: VecDeque::new(), under_way: false };
                    self.queues.insert(message.key.clone(), queue);
                    self.ready.push_back(message);
                }
            }
        }
        new
    }

    /// Whether a message may be published now, and no suspect comes before it.
    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty() && self.isolating().is_none()
    }

    /// Returns the next message that may be published now, and counts it as in flight.
    pub(super) fn next(&mut self) -> Option<Next> {
        let next = if self.isolating().is_some() {
            // One at a time, and only when all other deliveries have ended: if the relay crashes
            // now, this message is the cause.
            let alone = self.under_way == 0 && self.settled.is_empty();
            let (_, message) = alone.then(|| self.suspects.pop_first()).flatten()?;
            // Its partition may be cleared before it ends. Messages behind it must not overtake it.
            let (partition, behind) = (message.partition, VecDeque::new());
            let queue = KeyQueue { partition, behind, under_way: true };
            self.queues.insert(message.key.clone(), queue);
            self.lease(message.partition).map(|lease| Next::Alone(message, lease))
        } else {
            let message = self.ready.pop_front()?;
            if let Some(queue) = self.queues.get_mut(&message.key) {
                queue.under_way = true;
            }
            self.lease(message.partition).map(|lease| Next::Publish(message, lease))
        };
        self.under_way += usize::from(next.is_some());
        next
    }

    /// Records the end of a delivery. Its verdict waits for the store.
    pub(super) fn ended(&mut self, delivery: Delivery, lease: Lease, verdict: Verdict) {
        self.under_way -= 1;
        match verdict {
            Verdict::Delivered => self.next_of(&delivery.key),
            // The messages behind a dead letter wait until the store has recorded it. If this relay
            // crashes before that, the dead letter is published again, and no message behind it may
            // overtake it.
            Verdict::Dead { hold_key: false, .. } => {}
            Verdict::Dead { .. } | Verdict::Retry { .. } => {
                // The store returns the messages behind it again when the key is free.
                self.failing.insert(delivery.key.clone());
                self.forget_queue(&delivery.key);
            }
        }
        let Delivery { id, sequence, key, due_at, .. } = delivery;
        self.settled.push(Settled { id, sequence, key, due_at, lease, verdict });
    }

    /// Forgets a delivery that did not begin, or whose partition is lost, as if it had never been
    /// fetched.
    pub(super) fn abandoned(&mut self, delivery: &Delivery) {
        self.under_way -= 1;
        self.held.remove(&delivery.id);
        self.forget_queue(&delivery.key);
    }

    /// Skips a suspect whose start the store refuses to record. Messages of its key wait until its
    /// partition has no suspects.
    pub(super) fn pass_over(&mut self, delivery: &Delivery) {
        self.abandoned(delivery);
        self.passed_over.insert(delivery.key.clone());
    }

    /// Forgets the messages that wait behind a message of `key`, in its queue and among the
    /// suspects.
    fn forget_queue(&mut self, key: &str) {
        for behind in self.queues.remove(key).map(|queue| queue.behind).unwrap_or_default() {
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
        let Some(queue) = self.queues.get_mut(key) else { return };
        queue.under_way = false;
        match queue.behind.pop_front() {
            Some(next) => self.ready.push_back(next),
            None => drop(self.queues.remove(key)),
        }
    }

    /// Forgets the messages that are not in flight.
    pub(super) fn forget_waiting(&mut self) {
        let behind = self.queues.values_mut().flat_map(|queue| queue.behind.drain(..));
        for message in behind.chain(self.ready.drain(..)) {
            self.held.remove(&message.id);
        }
        self.queues.retain(|_, queue| queue.under_way);
        self.forget_suspects();
    }

    fn forget_suspects(&mut self) {
        for suspect in std::mem::take(&mut self.suspects).into_values() {
            self.held.remove(&suspect.id);
        }
    }

    /// Returns the results that the store has not recorded yet.
    pub(super) fn settled(&self) -> &[Settled] {
        &self.settled
    }

    /// Removes the first `count` of [`settled`](Self::settled), and returns those that the store
    /// recorded. The store refused the partitions `refused`, which another relay owns now.
    pub(super) fn written(&mut self, count: usize, refused: &[u16]) -> Vec<Settled> {
        let written: Vec<Settled> = self.settled.drain(..count.min(self.settled.len())).collect();
        for settled in &written {
            self.held.remove(&settled.id);
            match settled.verdict {
                Verdict::Delivered => {}
                Verdict::Dead { hold_key: false, .. } => {
                    if refused.contains(&settled.lease.partition) {
                        // The store returns it again, before the messages behind it.
                        self.forget_queue(&settled.key);
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
            // A partition that came back under a newer epoch stays.
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
