//! Transactions in memory, and the operations in them.

use std::fmt;

use buttress::StoreError;

use super::super::inbox::{Inbox, Receipt};
use super::super::message::{MessageId, NewMessage};
use super::super::store::Write;
use super::MemoryStore;
use super::rows::{Holder, Mark};
use crate::saga::{Barrier, Passage, SagaId};

/// A transaction of a [`MemoryStore`]. Dropping it rolls it back.
#[must_use = "dropping a transaction rolls it back"]
pub struct MemoryTransaction {
    pub(super) store: MemoryStore,
    pub(super) number: u64,
    pub(super) messages: Vec<NewMessage>,
    pub(super) marks: Vec<Mark>,
    /// The changes of other stores in memory.
    pub(super) joined: Vec<Box<dyn Joined>>,
}

/// A change of another store in memory. Dropping it rolls it back.
pub(super) trait Joined: Send + Sync {
    /// Makes the change visible.
    fn commit(self: Box<Self>);
}

impl MemoryTransaction {
    /// Commits all writes of the transaction atomically.
    pub fn commit(mut self) {
        let store = self.store.clone();
        let (now, unix) = (store.shared.clock.now(), store.shared.clock.unix());
        let mut rows = store.lock();
        for message in self.messages.drain(..) {
            rows.insert(message, now, unix);
        }
        for mark in self.marks.drain(..) {
            rows.receive(mark, now);
        }
        // Under the lock of the rows, so that a reader of this store does not see a part of the transaction.
        self.joined.drain(..).for_each(Joined::commit);
    }

    /// Sets a mark. Returns `false` if the mark is set already.
    fn mark(&mut self, mark: Mark) -> Result<bool, StoreError> {
        let mut rows = self.store.lock();
        match rows.receipts.get(&mark) {
            Some(Holder::Transaction(other)) if *other != self.number => {
                Err(StoreError::transient(
                    "another open transaction has received the same message or step",
                ))
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
                Err(StoreError::transient(
                    "another open transaction has received the same message or step",
                ))
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

impl Write<MemoryTransaction> for MemoryStore {
    async fn write(
        &self,
        tx: &mut MemoryTransaction,
        message: &NewMessage,
    ) -> Result<(), StoreError> {
        message
            .check()
            .map_err(|error| StoreError::invalid(error.to_string()).with_source(error))?;
        let known = self.lock().ids.contains_key(&message.id)
            || tx.messages.iter().any(|other| other.id == message.id);
        if known {
            return Err(StoreError::conflict(format!("message {} is written twice", message.id)));
        }
        tx.messages.push(message.clone());
        Ok(())
    }

    /// Does nothing: commits in memory never overlap.
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
}

impl Barrier<MemoryTransaction> for MemoryStore {
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
