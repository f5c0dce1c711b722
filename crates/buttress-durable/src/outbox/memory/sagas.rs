//! Sagas that are created and signalled in a transaction in memory.

use std::sync::Arc;

use super::transaction::{Joined, MemoryTransaction};
use crate::answer::Answer;
use crate::saga::{
    CreateIn, MemoryStore, NewSaga, NewSignal, Record, SagaId, SignalAnswer, SignalIn,
};

/// A saga that exists once its transaction commits.
struct Creation<P: Clone + Send + Sync + 'static> {
    store: MemoryStore<P>,
    saga: SagaId,
    committed: bool,
}

impl<P: Clone + Send + Sync + 'static> Joined for Creation<P> {
    fn commit(mut self: Box<Self>) {
        self.committed = true;
    }
}

impl<P: Clone + Send + Sync + 'static> Drop for Creation<P> {
    fn drop(&mut self) {
        self.store.settle_reserved(self.saga, self.committed);
    }
}

/// The transaction belongs to the [`outbox::MemoryStore`](crate::outbox::MemoryStore) that began it. A saga is created
/// together with the messages and receipts of the transaction.
impl<P: Clone + Send + Sync + 'static> CreateIn<MemoryTransaction, P> for MemoryStore<P> {
    /// # Errors
    /// Returns `Transient` if another open transaction creates a saga with this id.
    async fn create_in(
        &self,
        tx: &mut MemoryTransaction,
        saga: NewSaga<P>,
    ) -> Answer<Option<Record<P>>> {
        let id = saga.id;
        let transaction = (Arc::as_ptr(&tx.store.shared) as usize, tx.number);
        let known = self.reserve(transaction, saga)?;
        if known.is_none() {
            let store = self.clone();
            tx.joined.push(Box::new(Creation { store, saga: id, committed: false }));
        }
        Ok(known)
    }
}

/// A signal that its saga has once the transaction commits.
struct Signalling<P: Clone + Send + Sync + 'static> {
    store: MemoryStore<P>,
    /// `None` once the signal is settled.
    signal: Option<NewSignal<P>>,
}

impl<P: Clone + Send + Sync + 'static> Signalling<P> {
    fn settle(&mut self, committed: bool) {
        if let Some(signal) = self.signal.take() {
            self.store.settle_signal(signal, committed);
        }
    }
}

impl<P: Clone + Send + Sync + 'static> Joined for Signalling<P> {
    fn commit(mut self: Box<Self>) {
        self.settle(true);
    }
}

impl<P: Clone + Send + Sync + 'static> Drop for Signalling<P> {
    fn drop(&mut self) {
        self.settle(false);
    }
}

/// The transaction belongs to the [`outbox::MemoryStore`](crate::outbox::MemoryStore) that began it. The commit
/// does not record the signal if its saga has ended since.
impl<P: Clone + Send + Sync + 'static> SignalIn<MemoryTransaction, P> for MemoryStore<P> {
    /// # Errors
    /// Returns `Transient` if another open transaction sends a signal with this name to the saga.
    async fn signal_in(
        &self,
        tx: &mut MemoryTransaction,
        signal: NewSignal<P>,
    ) -> Answer<SignalAnswer> {
        let transaction = (Arc::as_ptr(&tx.store.shared) as usize, tx.number);
        let answer = self.reserve_signal(transaction, &signal)?;
        if answer == SignalAnswer::Delivered {
            tx.joined.push(Box::new(Signalling { store: self.clone(), signal: Some(signal) }));
        }
        Ok(answer)
    }
}
