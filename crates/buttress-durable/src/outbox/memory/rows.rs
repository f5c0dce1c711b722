//! The rows of a store in memory, and the operations that change them.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::message::{Message, MessageId, NewMessage};
use super::super::store::{Lease, Owned, RelayId, Renewal, Settled, Verdict};
use crate::epoch;
use crate::instant;
use crate::saga::SagaId;

/// The number of partitions of a store in memory.
pub(super) const PARTITIONS: u16 = 16;
/// The most delivered messages that the store remembers until a purge.
const MOST_DELIVERED: usize = 10_000;

#[derive(Default)]
pub(super) struct Rows {
    /// By partition and sequence.
    pub pending: BTreeMap<(u16, u64), Row>,
    pub dead: BTreeMap<u64, Dead>,
    pub delivered: VecDeque<Instant>,
    /// The places of messages that are pending or dead.
    pub ids: HashMap<MessageId, (u16, u64)>,
    pub held: HashMap<String, Hold>,
    pub partitions: Vec<Partition>,
    pub relays: HashMap<RelayId, Instant>,
    pub sequence: u64,
    pub receipts: HashMap<Mark, Holder>,
    pub transactions: u64,
    /// How long receipts are kept; `None` keeps them forever.
    pub kept: Option<Duration>,
    /// Committed receipts by time, oldest first. A receipt that was written again later is here
    /// twice.
    pub received: VecDeque<(Instant, Mark)>,
}

/// How long a message waits.
enum Wait {
    None,
    Until(Instant),
    /// Until an operator releases its key.
    Forever,
}

/// The oldest message of a partition that is due.
struct Head<'a> {
    sequence: u64,
    /// The place of its partition among those that are read.
    at: usize,
    message: &'a Message,
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head<'_> {}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.sequence, self.at).cmp(&(other.sequence, other.at))
    }
}

pub(super) struct Row {
    pub message: Message,
    pub due: Instant,
    /// The claim of the last start that was counted.
    pub claim: Option<u64>,
}

pub(super) struct Dead {
    pub message: Message,
    pub error: String,
    pub died_at: Duration,
    pub holds_key: bool,
}

#[derive(Clone, Copy)]
pub(super) enum Hold {
    Until(Instant),
    /// Until an operator requeues or discards this dead letter.
    Operator(MessageId),
}

#[derive(Clone, Default)]
pub(super) struct Partition {
    /// The relay, and the end of its lease.
    pub owner: Option<(RelayId, Instant)>,
    pub epoch: u64,
    /// The greatest sequence that the owner has fetched.
    pub fetched: u64,
    pub suspect_to: u64,
}

/// A record of the inbox or of the barrier.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Mark {
    Received(String, MessageId),
    Action(SagaId, String),
    Undo(SagaId, String),
}

/// The transaction that set a mark.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Holder {
    /// Committed, at this time.
    Committed(Instant),
    Transaction(u64),
}

impl Rows {
    pub(super) fn insert(&mut self, new: NewMessage, now: Instant, unix: Duration) {
        self.sequence += 1;
        let partition = NewMessage::partition(&new.key, PARTITIONS);
        let (place, delay) = ((partition, self.sequence), new.delay);
        self.ids.insert(new.id, place);
        let due_at = unix.saturating_add(delay);
        let message = Message::new(new, self.sequence, partition, due_at);
        self.pending.insert(place, Row { message, due: instant::after(now, delay), claim: None });
    }

    pub(super) fn is_held(&self, key: &str, now: Instant) -> bool {
        match self.held.get(key) {
            Some(Hold::Until(until)) => now < *until,
            Some(Hold::Operator(_)) => true,
            None => false,
        }
    }

    pub(super) fn owns(&self, lease: &Lease) -> bool {
        self.partitions
            .get(usize::from(lease.partition))
            .is_some_and(|partition| partition.epoch == lease.epoch && partition.owner.is_some())
    }

    pub(super) fn lease(
        &mut self,
        Renewal { relay, lease, busy }: Renewal<'_>,
        now: Instant,
    ) -> Owned {
        let until = instant::after(now, lease);
        self.relays.retain(|_, until| now < *until);
        self.relays.insert(relay, until);
        let share = self.partitions.len().div_ceil(self.relays.len());
        let is_mine = |partition: &Partition| {
            partition.owner.is_some_and(|(owner, until)| owner == relay && now < until)
        };
        let mut mine = self.partitions.iter().filter(|partition| is_mine(partition)).count();
        // Releases from the last partition, and keeps the first.
        for (number, partition) in self.partitions.iter_mut().enumerate().rev() {
            let is_busy = busy.iter().any(|busy| usize::from(*busy) == number);
            if mine > share && is_mine(partition) && !is_busy {
                partition.release();
                mine -= 1;
            }
        }
        for partition in &mut self.partitions {
            let free = partition.owner.is_none_or(|(_, until)| now >= until);
            if is_mine(partition) {
                partition.owner = Some((relay, until));
            } else if let (true, Some(epoch)) = (free && mine < share, epoch::next(partition.epoch))
            {
                // Every message that a crashed owner had fetched may have caused the crash.
                partition.suspect_to = partition.suspect_to.max(partition.fetched);
                partition.fetched = 0;
                partition.epoch = epoch;
                partition.owner = Some((relay, until));
                mine += 1;
            }
        }
        let owned = (0u16..).zip(&self.partitions).filter(|(_, partition)| is_mine(partition));
        let leases = owned.map(|(partition, row)| Lease {
            partition,
            epoch: row.epoch,
            suspect_to: row.suspect_to,
        });
        Owned::new(leases.collect(), mine.saturating_sub(share))
    }

    pub(super) fn fetch(
        &mut self,
        leases: &[Lease],
        limit: usize,
        now: Instant,
    ) -> (Vec<Message>, Option<Instant>) {
        let mut next: Option<Instant> = None;
        let mut rows: Vec<_> = leases
            .iter()
            .filter(|lease| self.owns(lease))
            .map(|lease| self.pending.range((lease.partition, 0)..=(lease.partition, u64::MAX)))
            .collect();
        // The next message of each partition, the oldest of all first. No row beyond the limit is looked at.
        let mut heads = BinaryHeap::with_capacity(rows.len());
        let mut messages = Vec::new();
        let mut turn = 0..rows.len();
        loop {
            let at = match turn.next() {
                Some(at) => at,
                None if messages.len() == limit => break,
                None => {
                    let Some(Reverse(Head { message, at, .. })) = heads.pop() else { break };
                    messages.push(Message::clone(message));
                    at
                }
            };
            let due = rows.get_mut(at).and_then(|rows| {
                rows.find(|(_, row)| match self.wait_of(row, now) {
                    Wait::None => true,
                    Wait::Until(time) => {
                        next = Some(next.map_or(time, |next| next.min(time)));
                        false
                    }
                    Wait::Forever => false,
                })
            });
            if let Some(((_, sequence), row)) = due {
                heads.push(Reverse(Head { sequence: *sequence, at, message: &row.message }));
            }
        }
        for message in &messages {
            if let Some(partition) = self.partitions.get_mut(usize::from(message.partition)) {
                partition.fetched = partition.fetched.max(message.sequence);
            }
        }
        (messages, next)
    }

    /// Returns how long a pending message waits.
    fn wait_of(&self, row: &Row, now: Instant) -> Wait {
        match self.held.get(&row.message.key) {
            Some(Hold::Operator(_)) => Wait::Forever,
            Some(Hold::Until(until)) if now < *until => Wait::Until(*until),
            _ if now < row.due => Wait::Until(row.due),
            _ => Wait::None,
        }
    }

    pub(super) fn settle(&mut self, settled: Settled, now: Instant, unix: Duration) {
        let place = (settled.lease.partition, settled.sequence);
        let Some(row) = self.pending.get_mut(&place).filter(|row| row.message.id == settled.id)
        else {
            return;
        };
        match settled.verdict {
            Verdict::Delivered => {
                self.pending.remove(&place);
                self.ids.remove(&settled.id);
                self.delivered.push_back(now);
                if self.delivered.len() > MOST_DELIVERED {
                    self.delivered.pop_front();
                }
            }
            Verdict::Retry { counts, after, .. } => {
                row.message.attempts += u32::from(counts);
                row.message.starts = 0;
                self.held.insert(settled.key, Hold::Until(instant::after(now, after)));
            }
            Verdict::Dead { error, hold_key } => {
                let Some(mut row) = self.pending.remove(&place) else { return };
                row.message.attempts += 1;
                if hold_key {
                    self.held.insert(settled.key, Hold::Operator(settled.id));
                } else {
                    self.held.remove(&settled.key);
                }
                let dead = Dead { message: row.message, error, died_at: unix, holds_key: hold_key };
                self.dead.insert(settled.sequence, dead);
            }
        }
    }

    /// Records that a transaction with this receipt has committed.
    pub(super) fn receive(&mut self, mark: Mark, now: Instant) {
        self.receipts.insert(mark.clone(), Holder::Committed(now));
        self.received.push_back((now, mark));
        if let Some(kept) = self.kept {
            // Two per new receipt, so that the purge keeps up.
            self.purge_receipts(kept, 2, now);
        }
    }

    pub(super) fn purge_receipts(&mut self, age: Duration, limit: usize, now: Instant) -> usize {
        let mut purged = 0;
        while purged < limit {
            let old = self.received.front().is_some_and(|(at, _)| instant::after(*at, age) <= now);
            let Some((_, mark)) = old.then(|| self.received.pop_front()).flatten() else { break };
            // A transaction that has read the receipt keeps its answer until it ends.
            self.receipts.remove(&mark);
            purged += 1;
        }
        purged
    }

    /// Removes a dead letter, and releases its key.
    pub(super) fn revive(&mut self, id: MessageId) -> Option<Dead> {
        let (_, sequence) = self.ids.get(&id).copied()?;
        let dead = self.dead.remove(&sequence)?;
        if matches!(self.held.get(&dead.message.key), Some(Hold::Operator(by)) if *by == id) {
            self.held.remove(&dead.message.key);
        }
        Some(dead)
    }
}

impl Partition {
    pub(super) fn release(&mut self) {
        self.owner = None;
        self.fetched = 0;
    }
}
