//! [`MemoryStore`]: an outbox and inbox that end with the process, with transactions in memory.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::inbox::{Inbox, Passage, Receipt};
use super::message::{Message, MessageId, NewMessage};
use super::store::{
    Backlog, DeadLetter, Fetched, Lease, Owned, RelayId, Settled, Store, Verdict, Write,
};
use crate::clock::{self, Clock};
use crate::saga::SagaId;
use crate::store_error::StoreError;

/// How many partitions a store in memory has.
const PARTITIONS: u16 = 16;
/// How many delivered messages are remembered until a purge; older ones are forgotten.
const MOST_DELIVERED: usize = 10_000;

/// Keeps messages in memory, for tests and for what need not survive the process. Clones are the same
/// store.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress::outbox::{MemoryStore, MessageId, NewMessage, Store, Write};
/// let store = MemoryStore::new(buttress::Clock::default());
/// let mut tx = store.begin();
/// store.write(&mut tx, &NewMessage::new(MessageId::new(1), "order-7", "paid")).await?;
/// assert_eq!(store.backlog().await?.pending, 0);
/// tx.commit();
/// assert_eq!(store.backlog().await?.pending, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Clock,
    /// Guards everything; no user code runs under it.
    rows: Mutex<Rows>,
}

#[derive(Default)]
struct Rows {
    /// By partition and sequence.
    pending: BTreeMap<(u16, u64), Row>,
    dead: BTreeMap<u64, Dead>,
    delivered: VecDeque<Instant>,
    /// Of messages pending or dead.
    ids: HashMap<MessageId, (u16, u64)>,
    held: HashMap<String, Hold>,
    partitions: Vec<Partition>,
    relays: HashMap<RelayId, Instant>,
    sequence: u64,
    receipts: HashMap<Mark, Holder>,
    transactions: u64,
}

struct Row {
    message: Message,
    due: Instant,
    /// The last start that was counted.
    claim: Option<u64>,
}

struct Dead {
    message: Message,
    error: String,
    died_at: Duration,
    holds_key: bool,
}

#[derive(Clone, Copy)]
enum Hold {
    Until(Instant),
    /// Until an operator has decided about this dead letter.
    Operator(MessageId),
}

#[derive(Clone, Default)]
struct Partition {
    /// With the end of its lease.
    owner: Option<(RelayId, Instant)>,
    epoch: u64,
    /// How far the owner has fetched.
    fetched: u64,
    suspect_to: u64,
}

/// What a participant remembers.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Mark {
    Received(String, MessageId),
    Action(SagaId, String),
    Undo(SagaId, String),
}

/// Who has set a mark.
#[derive(Clone, Copy, PartialEq)]
enum Holder {
    Committed,
    Transaction(u64),
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        let partitions = vec![Partition::default(); usize::from(PARTITIONS)];
        let rows = Mutex::new(Rows { partitions, ..Rows::default() });
        Self { shared: Arc::new(Shared { clock, rows }) }
    }

    /// Begins a transaction.
    pub fn begin(&self) -> MemoryTransaction {
        let mut rows = self.lock();
        rows.transactions += 1;
        let number = rows.transactions;
        drop(rows);
        let store = self.clone();
        MemoryTransaction { store, number, messages: Vec::new(), marks: Vec::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Rows> {
        self.shared.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pending = self.lock().pending.len();
        f.debug_struct("MemoryStore").field("pending", &pending).finish_non_exhaustive()
    }
}

/// A transaction of a [`MemoryStore`]. Dropping it rolls it back.
#[must_use = "dropping a transaction rolls it back"]
pub struct MemoryTransaction {
    store: MemoryStore,
    number: u64,
    messages: Vec<NewMessage>,
    marks: Vec<Mark>,
}

impl MemoryTransaction {
    /// Makes everything written in it true at once.
    pub fn commit(mut self) {
        let store = self.store.clone();
        let (now, unix) = (store.shared.clock.now(), store.shared.clock.unix());
        let mut rows = store.lock();
        for message in self.messages.drain(..) {
            rows.insert(message, now, unix);
        }
        for mark in self.marks.drain(..) {
            rows.receipts.insert(mark, Holder::Committed);
        }
    }

    /// Sets a mark, unless it is set: then says that.
    fn mark(&mut self, mark: Mark) -> Result<bool, StoreError> {
        let mut rows = self.store.lock();
        match rows.receipts.get(&mark) {
            Some(Holder::Transaction(other)) if *other != self.number => {
                Err(StoreError::transient("another transaction is at the same message or step"))
            }
            Some(_) => Ok(false),
            None => {
                rows.receipts.insert(mark.clone(), Holder::Transaction(self.number));
                self.marks.push(mark);
                Ok(true)
            }
        }
    }

    fn is_marked(&self, mark: &Mark) -> Result<bool, StoreError> {
        match self.store.lock().receipts.get(mark) {
            Some(Holder::Transaction(other)) if *other != self.number => {
                Err(StoreError::transient("another transaction is at the same message or step"))
            }
            found => Ok(found.is_some()),
        }
    }
}

impl Drop for MemoryTransaction {
    fn drop(&mut self) {
        let mut rows = self.store.lock();
        for mark in self.marks.drain(..) {
            rows.receipts.remove(&mark);
        }
    }
}

impl fmt::Debug for MemoryTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let messages = self.messages.len();
        f.debug_struct("MemoryTransaction").field("messages", &messages).finish_non_exhaustive()
    }
}

impl Rows {
    fn insert(&mut self, new: NewMessage, now: Instant, unix: Duration) {
        self.sequence += 1;
        let partition = NewMessage::partition(&new.key, PARTITIONS);
        let message = Message {
            id: new.id,
            sequence: self.sequence,
            key: new.key,
            topic: new.topic,
            payload: new.payload,
            headers: new.headers,
            partition,
            due_at: unix.saturating_add(new.delay),
            attempts: 0,
            starts: 0,
        };
        let place = (partition, self.sequence);
        self.ids.insert(new.id, place);
        self.pending.insert(place, Row { message, due: clock::after(now, new.delay), claim: None });
    }

    fn is_held(&self, key: &str, now: Instant) -> bool {
        match self.held.get(key) {
            Some(Hold::Until(until)) => now < *until,
            Some(Hold::Operator(_)) => true,
            None => false,
        }
    }

    fn owns(&self, lease: &Lease) -> bool {
        self.partitions
            .get(usize::from(lease.partition))
            .is_some_and(|partition| partition.epoch == lease.epoch && partition.owner.is_some())
    }

    fn lease(&mut self, relay: RelayId, lease: Duration, busy: &[u16], now: Instant) -> Owned {
        let until = clock::after(now, lease);
        self.relays.retain(|_, until| now < *until);
        self.relays.insert(relay, until);
        let share = self.partitions.len().div_ceil(self.relays.len());
        let is_mine = |partition: &Partition| {
            partition.owner.is_some_and(|(owner, until)| owner == relay && now < until)
        };
        let mut mine = self.partitions.iter().filter(|partition| is_mine(partition)).count();
        // From the last: the first are kept.
        for (number, partition) in self.partitions.iter_mut().enumerate().rev() {
            let is_busy = busy.iter().any(|busy| usize::from(*busy) == number);
            if mine > share && is_mine(partition) && !is_busy {
                partition.give_up();
                mine -= 1;
            }
        }
        for partition in &mut self.partitions {
            let free = partition.owner.is_none_or(|(_, until)| now >= until);
            if is_mine(partition) {
                partition.owner = Some((relay, until));
            } else if free && mine < share {
                // Whatever an owner that vanished had fetched may have brought it down.
                partition.suspect_to = partition.suspect_to.max(partition.fetched);
                partition.fetched = 0;
                partition.epoch += 1;
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
        Owned { leases: leases.collect(), surplus: mine.saturating_sub(share) }
    }

    fn fetch(
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

    fn settle(&mut self, settled: Settled, now: Instant, unix: Duration) {
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
                self.held.insert(settled.key, Hold::Until(clock::after(now, after)));
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

    /// Takes a dead letter out, and lets its key go on.
    fn revive(&mut self, id: MessageId) -> Option<Dead> {
        let (_, sequence) = self.ids.get(&id).copied()?;
        let dead = self.dead.remove(&sequence)?;
        if matches!(self.held.get(&dead.message.key), Some(Hold::Operator(by)) if *by == id) {
            self.held.remove(&dead.message.key);
        }
        Some(dead)
    }
}

impl Partition {
    fn give_up(&mut self) {
        self.owner = None;
        self.fetched = 0;
    }
}

impl Write<MemoryTransaction> for MemoryStore {
    async fn write(
        &self,
        tx: &mut MemoryTransaction,
        message: &NewMessage,
    ) -> Result<(), StoreError> {
        message.check().map_err(|error| StoreError::invalid(error.to_string()))?;
        let known = self.lock().ids.contains_key(&message.id)
            || tx.messages.iter().any(|other| other.id == message.id);
        if known {
            return Err(StoreError::conflict(format!("message {} is written twice", message.id)));
        }
        tx.messages.push(message.clone());
        Ok(())
    }

    /// Nothing to do: commits come one after the other.
    async fn lock_key(&self, _tx: &mut MemoryTransaction, _key: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

impl Inbox<MemoryTransaction> for MemoryStore {
    async fn receive(
        &self,
        tx: &mut MemoryTransaction,
        consumer: &str,
        message: MessageId,
    ) -> Result<Receipt, StoreError> {
        let first = tx.mark(Mark::Received(consumer.to_owned(), message))?;
        Ok(if first { Receipt::First } else { Receipt::Repeated })
    }

    async fn action(
        &self,
        tx: &mut MemoryTransaction,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        if tx.is_marked(&Mark::Undo(saga, step.to_owned()))? {
            return Ok(Passage::Overtaken);
        }
        let first = tx.mark(Mark::Action(saga, step.to_owned()))?;
        Ok(if first { Passage::Proceed } else { Passage::Repeated })
    }

    async fn undo(
        &self,
        tx: &mut MemoryTransaction,
        saga: SagaId,
        step: &str,
    ) -> Result<Passage, StoreError> {
        let acted = tx.is_marked(&Mark::Action(saga, step.to_owned()))?;
        let first = tx.mark(Mark::Undo(saga, step.to_owned()))?;
        Ok(match (acted, first) {
            (true, true) => Passage::Proceed,
            (true, false) => Passage::Repeated,
            (false, _) => Passage::Overtaken,
        })
    }
}

impl Store for MemoryStore {
    async fn lease(
        &self,
        relay: RelayId,
        lease: Duration,
        busy: &[u16],
    ) -> Result<Owned, StoreError> {
        let now = self.shared.clock.now();
        Ok(self.lock().lease(relay, lease, busy, now))
    }

    async fn release(&self, relay: RelayId) -> Result<(), StoreError> {
        let mut rows = self.lock();
        rows.relays.remove(&relay);
        for partition in &mut rows.partitions {
            if partition.owner.is_some_and(|(owner, _)| owner == relay) {
                partition.give_up();
            }
        }
        Ok(())
    }

    async fn fetch(
        &self,
        _relay: RelayId,
        leases: &[Lease],
        limit: usize,
    ) -> Result<Fetched, StoreError> {
        let (now, unix) = (self.shared.clock.now(), self.shared.clock.unix());
        let (messages, next) = self.lock().fetch(leases, limit, now);
        let next_due = next.map(|next| unix.saturating_add(next.saturating_duration_since(now)));
        Ok(Fetched { messages, now: unix, next_due })
    }

    async fn start(&self, lease: Lease, id: MessageId, claim: u64) -> Result<u32, StoreError> {
        let mut rows = self.lock();
        let row = match rows.owns(&lease) {
            true => rows.ids.get(&id).copied().and_then(|place| rows.pending.get_mut(&place)),
            false => return Err(StoreError::fenced(format!("partition {}", lease.partition))),
        };
        let row =
            row.ok_or_else(|| StoreError::conflict(format!("message {id} is not pending")))?;
        if row.claim.replace(claim) != Some(claim) {
            row.message.starts += 1;
        }
        Ok(row.message.starts)
    }

    async fn clear_suspects(&self, lease: Lease) -> Result<(), StoreError> {
        let mut rows = self.lock();
        if !rows.owns(&lease) {
            return Err(StoreError::fenced(format!("partition {}", lease.partition)));
        }
        if let Some(partition) = rows.partitions.get_mut(usize::from(lease.partition)) {
            partition.suspect_to = 0;
        }
        Ok(())
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<Vec<u16>, StoreError> {
        let (now, unix) = (self.shared.clock.now(), self.shared.clock.unix());
        let mut rows = self.lock();
        let mut refused = Vec::new();
        for settled in settled {
            if rows.owns(&settled.lease) {
                rows.settle(settled, now, unix);
            } else if !refused.contains(&settled.lease.partition) {
                refused.push(settled.lease.partition);
            }
        }
        Ok(refused)
    }

    async fn dead_letters(&self, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let rows = self.lock();
        let letters = rows.dead.range(after.saturating_add(1)..).take(limit);
        let letters = letters.map(|(_, dead)| DeadLetter {
            message: dead.message.clone(),
            error: dead.error.clone(),
            died_at: dead.died_at,
            holds_key: dead.holds_key,
        });
        Ok(letters.collect())
    }

    async fn requeue(&self, ids: &[MessageId]) -> Result<usize, StoreError> {
        let now = self.shared.clock.now();
        let mut rows = self.lock();
        let mut revived = 0;
        for id in ids {
            let Some(mut dead) = rows.revive(*id) else { continue };
            (dead.message.attempts, dead.message.starts) = (0, 0);
            let place = (dead.message.partition, dead.message.sequence);
            rows.pending.insert(place, Row { message: dead.message, due: now, claim: None });
            revived += 1;
        }
        Ok(revived)
    }

    async fn discard(&self, ids: &[MessageId]) -> Result<usize, StoreError> {
        let mut rows = self.lock();
        let mut discarded = 0;
        for id in ids {
            if rows.revive(*id).is_some() {
                rows.ids.remove(id);
                discarded += 1;
            }
        }
        Ok(discarded)
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        let now = self.shared.clock.now();
        let rows = self.lock();
        let due = rows.pending.values().map(|row| now.saturating_duration_since(row.due));
        let held: HashSet<&String> =
            rows.held.keys().filter(|key| rows.is_held(key, now)).collect();
        Ok(Backlog {
            pending: rows.pending.len() as u64,
            dead: rows.dead.len() as u64,
            held_keys: held.len() as u64,
            oldest_age: due.max().unwrap_or_default(),
        })
    }

    async fn purge(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        let now = self.shared.clock.now();
        let mut rows = self.lock();
        let mut purged = 0;
        while purged < limit
            && rows.delivered.front().is_some_and(|at| clock::after(*at, age) <= now)
        {
            rows.delivered.pop_front();
            purged += 1;
        }
        // Holds that have run out hold nothing.
        rows.held.retain(|_, hold| !matches!(hold, Hold::Until(until) if *until <= now));
        Ok(purged)
    }
}
