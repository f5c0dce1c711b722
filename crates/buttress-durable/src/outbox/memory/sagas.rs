//! Sagas that are created in a transaction in memory.

use std::sync::Arc;

use super::transaction::{Joined, MemoryTransaction};
use crate::answer::Answer;
use crate::saga::{CreateIn, MemoryStore, NewSaga, Record, SagaId};

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
