//! [`MemoryStore`]: an outbox, an inbox and a barrier in memory, with transactions.

mod rows;
mod sagas;
mod transaction;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress::{Clock, StoreError};
pub use transaction::MemoryTransaction;

use super::message::MessageId;
use super::store::{Backlog, DeadLetter, Fetched, Lease, Owned, RelayId, Renewal, Settled, Store};
use crate::answer::Answer;
use crate::instant;
use rows::{Hold, PARTITIONS, Partition, Row, Rows};

/// The default time for which receipts are kept: 30 days.
const KEPT: Option<Duration> = Some(Duration::from_secs(30 * 24 * 3600));

/// A store of messages in memory, for tests and for messages that need not survive the process.
/// Its transactions also write the receipts of its [`Inbox`](super::Inbox) and the records of its
/// [`saga::Barrier`](crate::saga::Barrier), and [create sagas](crate::saga::CreateIn) in a
/// [`saga::MemoryStore`](crate::saga::MemoryStore). Clones share one store.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use buttress_durable::outbox::{MemoryStore, MessageId, NewMessage, Store, Write};
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
    /// Guards all state. No user code runs under this lock.
    rows: Mutex<Rows>,
}

impl MemoryStore {
    /// Creates an empty store.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        buttress::__simulated::check_clock("outbox::MemoryStore", &clock);
        let partitions = vec![Partition::default(); usize::from(PARTITIONS)];
        let rows = Mutex::new(Rows { partitions, kept: KEPT, ..Rows::default() });
        Self { shared: Arc::new(Shared { clock, rows }) }
    }

    /// Sets how long the store keeps receipts of the inbox and records of the barrier, for all
    /// clones. Default: 30 days. `None` keeps them forever.
    #[must_use]
    pub fn keep_receipts(self, time: impl Into<Option<Duration>>) -> Self {
        self.lock().kept = time.into();
        self
    }

    /// Begins a transaction.
    pub fn begin(&self) -> MemoryTransaction {
        let mut rows = self.lock();
        rows.transactions += 1;
        let number = rows.transactions;
        drop(rows);
        let store = self.clone();
        MemoryTransaction {
            store,
            number,
            messages: Vec::new(),
            marks: Vec::new(),
            joined: Vec::new(),
        }
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

impl Store for MemoryStore {
    async fn lease_partitions(&self, renewal: Renewal<'_>) -> Answer<Owned> {
        let now = self.shared.clock.now();
        Ok(self.lock().lease(renewal, now))
    }

    async fn release_partitions(&self, relay: RelayId) -> Answer<()> {
        let mut rows = self.lock();
        rows.relays.remove(&relay);
        for partition in &mut rows.partitions {
            if partition.owner.is_some_and(|(owner, _)| owner == relay) {
                partition.release();
            }
        }
        Ok(())
    }

    async fn fetch(&self, _relay: RelayId, leases: &[Lease], limit: usize) -> Answer<Fetched> {
        let (now, unix) = (self.shared.clock.now(), self.shared.clock.unix());
        let (messages, next) = self.lock().fetch(leases, limit, now);
        let next_due = next.map(|next| unix.saturating_add(next.saturating_duration_since(now)));
        Ok(Fetched { messages, now: unix, next_due })
    }

    async fn record_start(&self, lease: Lease, id: MessageId, claim: u64) -> Answer<u32> {
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

    async fn clear_suspects(&self, lease: Lease) -> Answer<()> {
        let mut rows = self.lock();
        if !rows.owns(&lease) {
            return Err(StoreError::fenced(format!("partition {}", lease.partition)));
        }
        if let Some(partition) = rows.partitions.get_mut(usize::from(lease.partition)) {
            partition.suspect_to = 0;
        }
        Ok(())
    }

    async fn settle(&self, settled: Vec<Settled>) -> Answer<Vec<u16>> {
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

    async fn dead_letters(&self, after: u64, limit: usize) -> Answer<Vec<DeadLetter>> {
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

    async fn requeue(&self, ids: &[MessageId]) -> Answer<usize> {
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

    async fn discard(&self, ids: &[MessageId]) -> Answer<usize> {
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

    async fn backlog(&self) -> Answer<Backlog> {
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

    async fn purge_receipts(&self, age: Duration, limit: usize) -> Answer<usize> {
        let now = self.shared.clock.now();
        Ok(self.lock().purge_receipts(age, limit, now))
    }

    fn receipts_kept(&self) -> Option<Duration> {
        self.lock().kept
    }

    async fn purge_delivered(&self, age: Duration, limit: usize) -> Answer<usize> {
        let now = self.shared.clock.now();
        let mut rows = self.lock();
        let mut purged = 0;
        while purged < limit
            && rows.delivered.front().is_some_and(|at| instant::after(*at, age) <= now)
        {
            rows.delivered.pop_front();
            purged += 1;
        }
        // Removes holds that have run out.
        rows.held.retain(|_, hold| !matches!(hold, Hold::Until(until) if *until <= now));
        Ok(purged)
    }
}
