//! [`MemoryStore`]: a store of sagas in memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use buttress::{Clock, InMemoryValue, StoreError};

use crate::epoch;
use crate::instant;
use crate::saga::model::entry::{Beginning, Status};
use crate::saga::store::{
    Append, Appended, NewSaga, Record, SagaId, Signal, Summary, TakeOver, TakenOver, WorkerId,
};

mod lists;
mod migration;
mod reserving;
mod signals;
mod store;
mod waits;

use reserving::reserved;
use signals::Signalling;

/// A store of saga logs in memory, for tests and for sagas that need not survive the process.
///
/// Clones share one store. It keeps up to 10 000 ended sagas by default, and forgets the oldest
/// first.
pub struct MemoryStore<P = InMemoryValue> {
    inner: Arc<Inner<P>>,
}

struct Inner<P> {
    clock: Clock,
    keep_ended: usize,
    same: fn(&P, &P) -> bool,
    /// Guards all state. The only user code under this lock clones payloads.
    rows: Mutex<Rows<P>>,
}

struct Rows<P> {
    sagas: HashMap<SagaId, Row<P>>,
    /// By number of creation, oldest first. Without the sagas that wait.
    unfinished: BTreeMap<u64, SagaId>,
    /// The sagas that wait, by the time at which they are due.
    waiting: BTreeMap<(Instant, u64), SagaId>,
    /// With the time of their end, oldest first.
    ended: VecDeque<(Instant, SagaId)>,
    workers: HashMap<WorkerId, Instant>,
    created: u64,
    /// Sagas of open transactions, with the transaction. They are in no list.
    reserved: HashMap<SagaId, (Transaction, Record<P>)>,
    signalling: Signalling,
}

/// The identity of an open transaction: the address of its store, and its number there.
pub(crate) type Transaction = (usize, u64);

struct Row<P> {
    record: Record<P>,
    worker: WorkerId,
    number: u64,
    /// When the saga is due, if it waits.
    due: Option<Instant>,
    signals: Vec<Signal<P>>,
}

impl<P> Row<P> {
    fn summary(&self) -> Summary {
        let Record { id, definition, version, status, epoch, due_at, .. } = &self.record;
        let summary = Summary::new(*id, (definition.as_str(), *version), *status, *epoch);
        Summary { due_at: *due_at, ..summary }
    }
}

impl MemoryStore {
    /// Creates a store for sagas with the [`InMemory`](buttress::InMemory) codec, which keeps
    /// payloads unchanged.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self::comparing(clock, InMemoryValue::ptr_eq)
    }
}

impl MemoryStore<Vec<u8>> {
    /// Creates a store for sagas whose codec makes bytes.
    #[must_use]
    pub fn of_bytes(clock: Clock) -> Self {
        Self::comparing(clock, |one, other| one == other)
    }
}

impl<P> MemoryStore<P> {
    fn comparing(clock: Clock, same: fn(&P, &P) -> bool) -> Self {
        buttress::__simulated::check_clock("saga::MemoryStore", &clock);
        let rows = Rows {
            sagas: HashMap::new(),
            unfinished: BTreeMap::new(),
            waiting: BTreeMap::new(),
            ended: VecDeque::new(),
            workers: HashMap::new(),
            created: 0,
            reserved: HashMap::new(),
            signalling: Signalling::new(),
        };
        Self { inner: Arc::new(Inner { clock, keep_ended: 10_000, same, rows: Mutex::new(rows) }) }
    }

    /// Sets how many sagas the store keeps after their end. Default: 10 000. Has no effect on a
    /// store that was cloned.
    #[must_use]
    pub fn keep_ended(mut self, most: usize) -> Self {
        if let Some(inner) = Arc::get_mut(&mut self.inner) {
            inner.keep_ended = most;
        }
        self
    }

    fn lock(&self) -> MutexGuard<'_, Rows<P>> {
        self.inner.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the record of a new saga.
fn record<P>(saga: NewSaga<P>) -> Record<P> {
    let definition = (saga.definition, saga.version);
    Record {
        deadline: saga.deadline,
        ..Record::new(saga.id, definition, saga.codec, saga.beginning, saga.entries)
    }
}

impl<P: Clone> Rows<P> {
    fn insert(&mut self, mut record: Record<P>, worker: WorkerId, at: Duration) {
        record.created_at = Some(at);
        record.times.resize(record.entries.len(), Some(at));
        self.created += 1;
        let number = self.created;
        self.unfinished.insert(number, record.id);
        self.sagas
            .insert(record.id, Row { record, worker, number, due: None, signals: Vec::new() });
    }

    fn is_live(&self, worker: WorkerId, now: Instant) -> bool {
        self.workers.get(&worker).is_some_and(|until| now < *until)
    }

    /// Returns `None` if there is no such saga, or the reason if its epoch cannot grow; the saga
    /// then stays unchanged.
    fn hand_over(
        &mut self,
        id: SagaId,
        worker: WorkerId,
        at: Duration,
    ) -> Option<Result<Record<P>, String>> {
        let row = self.sagas.get_mut(&id)?;
        let Some(next) = epoch::next(row.record.epoch) else {
            return Some(Err(format!("saga {id}: no epoch follows epoch {}", row.record.epoch)));
        };
        row.worker = worker;
        row.record.epoch = next;
        Some(Ok(Record { taken_at: Some(at), ..row.record.clone() }))
    }
}

impl<P: Clone + Send + Sync + 'static> MemoryStore<P> {
    fn create_now(&self, saga: NewSaga<P>) -> Result<(), StoreError> {
        let mut rows = self.lock();
        if rows.reserved.contains_key(&saga.id) {
            return Err(reserved(saga.id));
        }
        if let Some(row) = rows.sagas.get(&saga.id) {
            let known = &row.record;
            let same = (row.worker, known.epoch) == (saga.worker, 1)
                && known.entries.len() == saga.entries.len()
                && known.definition == saga.definition
                && (known.version, known.deadline) == (saga.version, saga.deadline)
                && self.is_same_beginning(&known.beginning, &saga.beginning)
                && self.begins_with(known, 0, &saga.entries);
            return match same {
                true => Ok(()),
                false => {
                    Err(StoreError::conflict(format!("saga {} exists with other content", saga.id)))
                }
            };
        }
        let worker = saga.worker;
        rows.insert(record(saga), worker, self.inner.clock.unix());
        Ok(())
    }

    fn is_same_beginning(&self, one: &Beginning<P>, other: &Beginning<P>) -> bool {
        (self.inner.same)(&one.input, &other.input)
            && (&one.shape, &one.correlation, &one.trace)
                == (&other.shape, &other.correlation, &other.trace)
    }

    /// Whether the log holds exactly these entries at `position`.
    fn begins_with(
        &self,
        record: &Record<P>,
        position: u64,
        entries: &[crate::saga::model::entry::Entry<P>],
    ) -> bool {
        let there = record.entries.iter().skip(usize::try_from(position).unwrap_or(usize::MAX));
        let mut pairs = there.zip(entries);
        let payloads = |one: Option<&P>, other: Option<&P>| match (one, other) {
            (Some(one), Some(other)) => (self.inner.same)(one, other),
            (None, None) => true,
            _ => false,
        };
        record.entries.len() as u64 >= position + entries.len() as u64
            && pairs.all(|(one, other)| {
                (one.kind(), one.step(), one.note()) == (other.kind(), other.step(), other.note())
                    && payloads(one.payload(), other.payload())
            })
    }

    fn append_now(&self, append: Append<P>) -> Result<Appended, StoreError> {
        let now = self.inner.clock.now();
        if append.status == Status::Waiting && append.due_in.is_none() {
            let why = format!("saga {}: a wait without the time until it is over", append.saga);
            return Err(StoreError::invalid(why));
        }
        let mut rows = self.lock();
        let fenced = || StoreError::fenced(format!("saga {} epoch {}", append.saga, append.epoch));
        let row = rows.sagas.get_mut(&append.saga).ok_or_else(fenced)?;
        let repeated = (row.record.entries.len() as u64) > append.position;
        // An ended saga has no owner any more. It accepts only a repetition of entries in its log.
        if row.record.epoch != append.epoch || (row.record.status.is_ended() && !repeated) {
            return Err(fenced());
        }
        let appended = Appended::new(row.record.cancel_requested);
        if row.record.entries.len() as u64 != append.position {
            return match self.begins_with(&row.record, append.position, &append.entries) {
                true => Ok(appended),
                false => Err(StoreError::conflict(format!(
                    "saga {}: entries at position {}, but the log has {} entries",
                    append.saga,
                    append.position,
                    row.record.entries.len()
                ))),
            };
        }
        if append.seen_signals.is_some_and(|seen| seen < row.record.signals) {
            return Ok(Appended::unseen_signals(appended.cancel_requested));
        }
        if append.overlooks_cancel(row.record.cancel_requested) {
            return Ok(Appended::unseen_cancel());
        }
        row.record.entries.extend(append.entries);
        row.record.times.resize(row.record.entries.len(), Some(self.inner.clock.unix_at(now)));
        row.record.status = append.status;
        let number = row.number;
        let forgets_cancel = row.record.cancel_requested && !append.knows_cancel;
        let due_in = append.due_in.filter(|_| append.status == Status::Waiting);
        let due_in = due_in.map(|due_in| if forgets_cancel { Duration::ZERO } else { due_in });
        if due_in.is_some() || row.due.is_some() {
            rows.set_due(
                append.saga,
                due_in.map(|due_in| (now, self.inner.clock.unix_at(now), due_in)),
            );
        }
        if append.status.is_ended() {
            rows.unfinished.remove(&number);
            rows.ended.push_back((now, append.saga));
            while rows.ended.len() > self.inner.keep_ended {
                if let Some((_, oldest)) = rows.ended.pop_front() {
                    rows.sagas.remove(&oldest);
                }
            }
        }
        Ok(appended)
    }

    fn take_over_now(
        &self,
        TakeOver { worker, definition, version, limit }: TakeOver<'_>,
    ) -> TakenOver<P> {
        let (now, at) = (self.inner.clock.now(), self.inner.clock.unix());
        let mut rows = self.lock();
        let free = |id: &&SagaId| {
            rows.sagas.get(*id).is_some_and(|row| {
                let record = &row.record;
                (record.definition.as_str(), record.version) == (definition, version)
                    && matches!(record.status, Status::Running | Status::Unwinding)
                    && !rows.is_live(row.worker, now)
            })
        };
        let is_sound = |id: &&SagaId| {
            rows.sagas.get(*id).is_some_and(|row| epoch::next(row.record.epoch).is_some())
        };
        let free: Vec<&SagaId> = rows.unfinished.values().filter(free).collect();
        // Sagas that cannot be taken do not keep the others from being taken.
        let (sound, worn): (Vec<&SagaId>, Vec<&SagaId>) = free.into_iter().partition(is_sound);
        let ids: Vec<SagaId> =
            sound.into_iter().take(limit).chain(worn.into_iter().take(limit)).copied().collect();
        let mut taken = TakenOver::new();
        for id in ids {
            match rows.hand_over(id, worker, at) {
                Some(Ok(record)) => taken.sagas.push(record),
                Some(Err(why)) => taken.corrupt.push((id, why)),
                None => {}
            }
        }
        taken
    }

    fn take_now(&self, worker: WorkerId, saga: SagaId) -> Option<Result<Record<P>, String>> {
        let now = self.inner.clock.now();
        let mut rows = self.lock();
        let row = rows.sagas.get(&saga)?;
        let status = row.record.status;
        let free =
            status == Status::Stuck || row.worker == worker || !rows.is_live(row.worker, now);
        if status.is_ended() || !free {
            return None;
        }
        rows.hand_over(saga, worker, self.inner.clock.unix())
    }

    fn take_unowned_now(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> Option<Result<Record<P>, String>> {
        let mut rows = self.lock();
        let row = rows.sagas.get(&saga)?;
        if row.worker != WorkerId::NOBODY || row.record.status.is_ended() {
            return None;
        }
        rows.hand_over(saga, worker, self.inner.clock.unix())
    }

    fn owned_now(&self, worker: WorkerId, name: &str, version: u32) -> Vec<SagaId> {
        let rows = self.lock();
        let owned = |id: &&SagaId| {
            rows.sagas.get(*id).is_some_and(|row| {
                let record = &row.record;
                row.worker == worker
                    && (record.definition.as_str(), record.version) == (name, version)
                    && matches!(record.status, Status::Running | Status::Unwinding)
            })
        };
        rows.unfinished.values().filter(owned).copied().collect()
    }

    fn purge_now(&self, definition: Option<&str>, age: Duration, limit: usize) -> usize {
        let now = self.inner.clock.now();
        let old = |at: Instant| instant::after(at, age) <= now;
        let mut rows = self.lock();
        let Rows { sagas, ended, workers, .. } = &mut *rows;
        workers.retain(|_, until| !old(*until));
        let mut purged = 0;
        ended.retain(|(at, id)| {
            let is_asked =
                |row: &Row<P>| definition.is_none_or(|name| row.record.definition == name);
            let purge = purged < limit && old(*at) && sagas.get(id).is_some_and(is_asked);
            if purge {
                sagas.remove(id);
                purged += 1;
            }
            !purge
        });
        purged
    }
}

impl<P> Clone for MemoryStore<P> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<P> fmt::Debug for MemoryStore<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sagas = self.lock().sagas.len();
        f.debug_struct("MemoryStore").field("sagas", &sagas).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
