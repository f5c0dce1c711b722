//! The operations of the store as futures.

use std::time::Duration;

use buttress::StoreError;

use super::MemoryStore;
use crate::instant;
use crate::saga::model::entry::Status;
use crate::saga::store::{
    Append, Appended, NewSaga, Record, SagaId, Store, Summary, TakenOver, WorkerId,
};

impl<P: Clone + Send + Sync + 'static> Store<P> for MemoryStore<P> {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        let until = instant::after(self.inner.clock.now(), lease);
        self.lock().workers.insert(worker, until);
        Ok(())
    }

    async fn release_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.lock().workers.remove(&worker);
        Ok(())
    }

    async fn create(&self, saga: NewSaga<P>) -> Result<(), StoreError> {
        self.create_now(saga)
    }

    async fn append(&self, append: Append<P>) -> Result<Appended, StoreError> {
        self.append_now(append)
    }

    async fn take_abandoned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<TakenOver<P>, StoreError> {
        Ok(self.take_over_now(worker, definition, version, limit))
    }

    async fn take_saga(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> Result<Option<Record<P>>, StoreError> {
        self.take_now(worker, saga).transpose().map_err(StoreError::corrupt)
    }

    async fn owned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
    ) -> Result<Vec<SagaId>, StoreError> {
        let rows = self.lock();
        let owned = |id: &&SagaId| {
            rows.sagas.get(*id).is_some_and(|row| {
                let record = &row.record;
                row.worker == worker
                    && (record.definition.as_str(), record.version) == (definition, version)
                    && matches!(record.status, Status::Running | Status::Unwinding)
            })
        };
        Ok(rows.unfinished.values().filter(owned).copied().collect())
    }

    async fn load(&self, saga: SagaId) -> Result<Option<Record<P>>, StoreError> {
        Ok(self.lock().sagas.get(&saga).map(|row| row.record.clone()))
    }

    async fn request_cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        let mut rows = self.lock();
        let row = rows.sagas.get_mut(&saga).filter(|row| !row.record.status.is_ended());
        Ok(row.map(|row| row.record.cancel_requested = true).is_some())
    }

    async fn list(
        &self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        Ok(self.list_now(status, after, limit))
    }

    async fn other_versions(
        &self,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        Ok(self.other_versions_now(definition, version, limit))
    }

    async fn purge_sagas(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        Ok(self.purge_now(age, limit))
    }

    async fn purge_definition(
        &self,
        definition: &str,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        Ok(self.purge_definition_now(definition, age, limit))
    }
}
