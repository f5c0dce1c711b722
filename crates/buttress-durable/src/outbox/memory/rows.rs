//! The rows of a store in memory, and the operations that change them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::super::message::{Message, MessageId, NewMessage};
use super::super::store::{Lease, Owned, RelayId, Settled, Verdict};
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
    pub(super) pending: BTreeMap<(u16, u64), Row>,
    pub(super) dead: BTreeMap<u64, Dead>,
    pub(super) delivered: VecDeque<Instant>,
    /// The places of messages that are pending or dead.
    pub(super) ids: HashMap<MessageId, (u16, u64)>,
    pub(super) held: HashMap<String, Hold>,
    pub(super) partitions: Vec<Partition>,
    pub(super) relays: HashMap<RelayId, Instant>,
    pub(super) sequence: u64,
    pub(super) receipts: HashMap<Mark, Holder>,
    pub(super) transactions: u64,
    /// How long receipts are kept; `None` keeps them forever.
    pub(super) kept: Option<Duration>,
    /// Committed receipts by time, oldest first. A receipt that was written again later is here
    /// twice.
    pub(super) received: VecDeque<(Instant, Mark)>,
}

pub(super) struct Row {
    pub(super) message: Message,
    pub(super) due: Instant,
    /// The claim of the last start that was counted.
    pub(super) claim: Option<u64>,
}

pub(super) struct Dead {
    pub(super) message: Message,
    pub(super) error: String,
    pub(super) died_at: Duration,
    pub(super) holds_key: bool,
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
    pub(super) owner: Option<(RelayId, Instant)>,
    pub(super) epoch: u64,
    /// The greatest sequence that the owner has fetched.
    pub(super) fetched: u64,
    pub(super) suspect_to: u64,
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
        relay: RelayId,
        lease: Duration,
        busy: &[u16],
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
        let mut messages = Vec::new();
        let mut next: Option<Instant> = None;
        let mut sooner = |at: Instant| next = Some(next.map_or(at, |next| next.min(at)));
        for lease in leases.iter().filter(|lease| self.owns(lease)) {
            let mut found = 0;
            for (_, row) in self.pending.range((lease.partition, 0)..=(lease.partition, u64::MAX)) {
                if found == limit {
                    break;
                }
                match self.held.get(&row.message.key) {
                    Some(Hold::Operator(_)) => continue,
                    Some(Hold::Until(until)) if now < *until => {
                        sooner(*until);
                        continue;
                    }
                    _ => {}
                }
                if now < row.due {
                    sooner(row.due);
                    continue;
                }
                messages.push(row.message.clone());
                found += 1;
            }
        }
        messages.sort_by_key(|message: &Message| message.sequence);
        messages.truncate(limit);
        for message in &messages {
            if let Some(partition) = self.partitions.get_mut(usize::from(message.partition)) {
                partition.fetched = partition.fetched.max(message.sequence);
            }
        }
        (messages, next)
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
