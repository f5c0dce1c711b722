//! Sagas that an open transaction of the user creates.

use buttress::StoreError;

use super::{MemoryStore, Transaction, record};
use crate::saga::store::{NewSaga, Record, SagaId, WorkerId};

pub(super) fn reserved(saga: SagaId) -> StoreError {
    StoreError::transient(format!("an open transaction creates saga {saga}"))
}

impl<P: Clone + Send + Sync + 'static> MemoryStore<P> {
    /// Reserves the id of a saga for a transaction. Returns the saga that is known under the id.
    pub(crate) fn reserve(
        &self,
        transaction: Transaction,
        saga: NewSaga<P>,
    ) -> Result<Option<Record<P>>, StoreError> {
        let mut rows = self.lock();
        if let Some(row) = rows.sagas.get(&saga.id) {
            return Ok(Some(row.record.clone()));
        }
        match rows.reserved.get(&saga.id) {
            Some((by, record)) if *by == transaction => Ok(Some(record.clone())),
            Some(_) => Err(reserved(saga.id)),
            None => {
                rows.reserved.insert(saga.id, (transaction, record(saga)));
                Ok(None)
            }
        }
    }

    /// Creates a reserved saga, or forgets it if its transaction was rolled back.
    pub(crate) fn settle_reserved(&self, saga: SagaId, committed: bool) {
        let mut rows = self.lock();
        if let Some((_, record)) = rows.reserved.remove(&saga) {
            if committed {
                rows.insert(record, WorkerId::NOBODY, self.inner.clock.unix());
            }
        }
    }
}
