//! The operations of the store as futures.

use std::time::Duration;

use buttress::StoreError;

use super::MemoryStore;
use crate::answer::Answer;
use crate::instant;
use crate::saga::store::{
    Append, Appended, Moved, NewLog, NewSaga, NewSignal, Page, Record, SagaId, Signal,
    SignalAnswer, Store, Summary, TakeOver, TakenOver, WorkerId,
};

impl<P: Clone + Send + Sync + 'static> Store<P> for MemoryStore<P> {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Answer<()> {
        let until = instant::after(self.inner.clock.now(), lease);
        self.lock().workers.insert(worker, until);
        Ok(())
    }

    async fn release_worker(&self, worker: WorkerId) -> Answer<()> {
        self.lock().workers.remove(&worker);
        Ok(())
    }

    async fn create(&self, saga: NewSaga<P>) -> Answer<()> {
        self.create_now(saga)
    }

    async fn append(&self, append: Append<P>) -> Answer<Appended> {
        self.append_now(append)
    }

    async fn take_abandoned(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<P>> {
        Ok(self.take_over_now(sagas))
    }

    fn keeps_waits(&self) -> bool {
        true
    }

    async fn has_due(&self, name: &str, version: u32) -> Answer<bool> {
        Ok(self.has_due_now(name, version))
    }

    async fn take_due(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<P>> {
        Ok(self.take_due_now(sagas))
    }

    fn keeps_signals(&self) -> bool {
        true
    }

    async fn signal(&self, signal: NewSignal<P>) -> Answer<SignalAnswer> {
        self.signal_now(signal)
    }

    async fn signals(&self, saga: SagaId) -> Answer<Vec<Signal<P>>> {
        Ok(self.signals_now(saga))
    }

    async fn take_saga(&self, worker: WorkerId, saga: SagaId) -> Answer<Option<Record<P>>> {
        self.take_now(worker, saga).transpose().map_err(StoreError::corrupt)
    }

    async fn owned(&self, worker: WorkerId, name: &str, version: u32) -> Answer<Vec<SagaId>> {
        Ok(self.owned_now(worker, name, version))
    }

    async fn has_unowned(&self, name: &str, version: u32) -> Answer<bool> {
        Ok(!self.owned_now(WorkerId::NOBODY, name, version).is_empty())
    }

    async fn take_unowned(&self, worker: WorkerId, saga: SagaId) -> Answer<Option<Record<P>>> {
        self.take_unowned_now(worker, saga).transpose().map_err(StoreError::corrupt)
    }

    async fn load(&self, saga: SagaId) -> Answer<Option<Record<P>>> {
        Ok(self.lock().sagas.get(&saga).map(|row| row.record.clone()))
    }

    async fn request_cancel(&self, saga: SagaId) -> Answer<bool> {
        let mut rows = self.lock();
        let row = rows.sagas.get_mut(&saga).filter(|row| !row.record.status.is_ended());
        let waits = match row {
            Some(row) => {
                row.record.cancel_requested = true;
                row.due.is_some()
            }
            None => return Ok(false),
        };
        if waits {
            let (now, at) = (self.inner.clock.now(), self.inner.clock.unix());
            rows.set_due(saga, Some((now, at, Duration::ZERO)));
        }
        Ok(true)
    }

    async fn list(&self, page: Page) -> Answer<Vec<Summary>> {
        Ok(self.list_now(page))
    }

    async fn other_versions(&self, of: &str, known: &[u32], limit: usize) -> Answer<Vec<Summary>> {
        Ok(self.other_versions_now(of, known, limit))
    }

    fn migrates(&self) -> bool {
        true
    }

    async fn migrate(&self, log: NewLog<P>) -> Answer<Moved> {
        self.migrate_now(log)
    }

    async fn purge_sagas(&self, name: Option<&str>, age: Duration, limit: usize) -> Answer<usize> {
        Ok(self.purge_now(name, age, limit))
    }
}
