//! Transactions in memory.

use std::fmt;

use buttress::StoreError;

use super::super::batch::{AppendError, Appended, NewBatch};
use super::super::checkpoint::{Advance, Swap};
use super::super::recorded::{Recorded, StreamPage};
use super::super::stream::{StreamId, Version};
use super::MemoryStore;
use super::rows::{Place, Rows};
use crate::answer::Answer;

/// A transaction of a [`MemoryStore`]. Dropping it rolls it back.
#[must_use = "dropping a transaction rolls it back"]
pub struct MemoryTransaction {
    store: MemoryStore,
    number: u64,
    events: Vec<Recorded>,
    moves: Vec<Move>,
    effects: Vec<Box<dyn FnOnce() + Send>>,
}

/// A change of projections.
enum Move {
    Advance(Advance),
    Swap(Swap),
}

impl MemoryTransaction {
    pub(super) fn new(store: MemoryStore, number: u64) -> Self {
        let (events, moves, effects) = (Vec::new(), Vec::new(), Vec::new());
        Self { store, number, events, moves, effects }
    }

    /// Runs `effect` if the transaction commits, directly after the commit. It stands for the other writes of a
    /// transaction on a database.
    pub fn on_commit(&mut self, effect: impl FnOnce() + Send + 'static) {
        self.effects.push(Box::new(effect));
    }

    /// Commits all writes of the transaction atomically.
    pub fn commit(mut self) {
        let store = self.store.clone();
        let mut rows = store.lock();
        self.end(&mut rows);
        for event in self.events.drain(..) {
            rows.append(event);
        }
        for change in self.moves.drain(..) {
            match change {
                Move::Advance(advance) => rows.advance(&advance),
                Move::Swap(swap) => rows.swap(&swap),
            }
        }
        drop(rows);
        for effect in self.effects.drain(..) {
            effect();
        }
    }

    pub(super) fn append(&mut self, batch: &NewBatch) -> Result<Appended, AppendError> {
        batch.check().map_err(StoreError::from)?;
        let staged = self.staged(&batch.stream);
        let unix = self.store.shared.clock.unix();
        let mut rows = self.store.lock();
        match rows.place(self.number, &staged, batch)? {
            Place::Repeated(before) => Ok(Appended::new(before, batch.events.len())),
            Place::After(before) => {
                rows.hold(&batch.stream, self.number);
                for (version, event) in (before.get() + 1..).zip(&batch.events) {
                    let (stream, event) = (batch.stream.clone(), event.clone());
                    let recorded = Recorded::new(stream, Version::new(version), event, unix);
                    self.events.push(recorded);
                }
                Ok(Appended::new(before, batch.events.len()))
            }
        }
    }

    pub(super) fn read(&self, stream: &StreamId, after: Version, limit: usize) -> StreamPage {
        self.store.lock().read(stream, &self.staged(stream), after, limit)
    }

    pub(super) fn advance(&mut self, advance: &Advance) -> Answer<()> {
        if advance.to < advance.from {
            let Advance { from, to, .. } = advance;
            return Err(StoreError::conflict(format!(
                "a checkpoint goes back from {from} to {to}"
            )));
        }
        self.store.lock().check(&advance.lease, advance.from, self.number)?;
        self.moves.push(Move::Advance(advance.clone()));
        Ok(())
    }

    pub(super) fn swap(&mut self, swap: &Swap) -> Answer<()> {
        self.store.lock().check_swap(swap, self.number)?;
        self.moves.push(Move::Swap(swap.clone()));
        Ok(())
    }

    /// Returns the events that the transaction has appended to a stream.
    fn staged(&self, stream: &StreamId) -> Vec<Recorded> {
        self.events.iter().filter(|event| event.stream == *stream).cloned().collect()
    }

    fn end(&self, rows: &mut Rows) {
        rows.end(self.number, self.events.iter().map(|event| &event.stream));
    }
}

impl Drop for MemoryTransaction {
    fn drop(&mut self) {
        self.end(&mut self.store.lock());
    }
}

impl fmt::Debug for MemoryTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let events = self.events.len();
        f.debug_struct("MemoryTransaction").field("events", &events).finish_non_exhaustive()
    }
}
