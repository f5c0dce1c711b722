//! A store of sagas with troubles.

use std::time::Duration;

use buttress::{InMemoryValue, StoreError};
use buttress_durable::saga::{
    Append, Appended, MemoryStore, NewSaga, Record, SagaId, Status, Store, Summary, TakenOver,
    WorkerId,
};
use buttress_sim::crash::{Ledger, Process};

/// The store of one worker. It reports owners to the ledger when each effect happens.
#[derive(Clone)]
pub(super) struct Troubled {
    pub(super) store: MemoryStore,
    pub(super) process: Process,
    pub(super) ledger: Ledger,
}

impl Store<InMemoryValue> for Troubled {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        let store = self.store.clone();
        self.process
            .operation("renew", async move { store.renew_worker(worker, lease).await })
            .await
    }

    async fn release_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        let store = self.store.clone();
        self.process.operation("retire", async move { store.release_worker(worker).await }).await
    }

    async fn create(&self, saga: NewSaga<InMemoryValue>) -> Result<(), StoreError> {
        let Self { store, process, ledger } = self.clone();
        let number = process.number();
        let create = async move {
            let id = saga.id;
            let known = store.load(id).await?.is_some();
            store.create(saga).await?;
            if !known {
                ledger.owned(id, number);
            }
            Ok(())
        };
        self.process.operation("create", create).await
    }

    async fn append(&self, append: Append<InMemoryValue>) -> Result<Appended, StoreError> {
        let store = self.store.clone();
        self.process.operation("append", async move { store.append(append).await }).await
    }

    async fn take_abandoned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<TakenOver<InMemoryValue>, StoreError> {
        let Self { store, process, ledger } = self.clone();
        let (definition, number) = (definition.to_owned(), process.number());
        let take_over = async move {
            let taken = store.take_abandoned(worker, &definition, version, limit).await?;
            taken.sagas.iter().for_each(|record| ledger.owned(record.id, number));
            Ok(taken)
        };
        self.process.operation("take over", take_over).await
    }

    async fn take_saga(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> Result<Option<Record<InMemoryValue>>, StoreError> {
        let Self { store, process, ledger } = self.clone();
        let number = process.number();
        let take = async move {
            let taken = store.take_saga(worker, saga).await?;
            taken.iter().for_each(|record| ledger.owned(record.id, number));
            Ok(taken)
        };
        self.process.operation("take", take).await
    }

    async fn owned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
    ) -> Result<Vec<SagaId>, StoreError> {
        let (store, definition) = (self.store.clone(), definition.to_owned());
        let owned = async move { store.owned(worker, &definition, version).await };
        self.process.operation("owned", owned).await
    }

    async fn load(&self, saga: SagaId) -> Result<Option<Record<InMemoryValue>>, StoreError> {
        let store = self.store.clone();
        self.process.operation("load", async move { store.load(saga).await }).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        let store = self.store.clone();
        self.process.operation("cancel", async move { store.request_cancel(saga).await }).await
    }

    async fn list(
        &self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        let store = self.store.clone();
        self.process.operation("list", async move { store.list(status, after, limit).await }).await
    }

    async fn other_versions(
        &self,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        let (store, definition) = (self.store.clone(), definition.to_owned());
        let others = async move { store.other_versions(&definition, version, limit).await };
        self.process.operation("other versions", others).await
    }

    async fn purge_sagas(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        let store = self.store.clone();
        self.process.operation("purge", async move { store.purge_sagas(age, limit).await }).await
    }

    async fn purge_definition(
        &self,
        definition: &str,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let (store, definition) = (self.store.clone(), definition.to_owned());
        let purge = async move { store.purge_definition(&definition, age, limit).await };
        self.process.operation("purge definition", purge).await
    }
}
