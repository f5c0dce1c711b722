//! A store of sagas with troubles.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use buttress::{Clock, InMemoryValue, StoreError};
use buttress_durable::saga::{
    Append, Appended, MemoryStore, NewSaga, Record, SagaId, Status, Store, Summary, TakenOver,
    WorkerId,
};
use buttress_sim::crash::{Ledger, Process};

/// Where each saga stood last, and since when. A purge removes the log, not this.
#[derive(Clone, Default)]
pub(super) struct History {
    fates: Arc<Mutex<BTreeMap<SagaId, (Status, Instant)>>>,
}

impl History {
    pub(super) fn status(&self, id: SagaId) -> Option<Status> {
        self.fates.lock().unwrap().get(&id).map(|(status, _)| *status)
    }

    fn is(&self, id: SagaId, status: Status, since: Instant) -> bool {
        let mut fates = self.fates.lock().unwrap();
        if fates.get(&id).is_some_and(|(known, _)| *known == status) {
            return false;
        }
        fates.insert(id, (status, since)).is_none()
    }
}

/// A store of one worker. It tells the ledger who owns what in the moment of each effect.
#[derive(Clone)]
pub(super) struct Troubled {
    pub(super) store: MemoryStore,
    pub(super) process: Process,
    pub(super) ledger: Ledger,
    pub(super) history: History,
    /// The clock of the store.
    pub(super) clock: Clock,
}

impl Troubled {
    /// Removes what ended `age` ago. It must have ended, that long ago.
    async fn purge(
        &self,
        definition: &str,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let known: Vec<_> = {
            let fates = self.history.fates.lock().unwrap();
            fates.iter().map(|(id, fate)| (*id, *fate)).collect()
        };
        let mut there = Vec::new();
        for (id, fate) in known {
            if self.store.load(id).await?.is_some() {
                there.push((id, fate));
            }
        }
        let purged = self.store.purge_definition(definition, age, limit).await?;
        for (id, (status, since)) in there {
            let old = self.clock.now() >= since + age;
            if self.store.load(id).await?.is_none() && !(status.is_ended() && old) {
                self.ledger.violated(format!("saga {id} was purged, {status:?} since {since:?}"));
            }
        }
        Ok(purged)
    }
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
        let Self { store, process, ledger, history, clock } = self.clone();
        let number = process.number();
        let create = async move {
            let id = saga.id;
            let known = store.load(id).await?.is_some();
            store.create(saga).await?;
            if !known {
                ledger.owned(id, number);
                if !history.is(id, Status::Running, clock.now()) {
                    ledger.violated(format!("saga {id} was stored again after its purge"));
                }
            }
            Ok(())
        };
        self.process.operation("create", create).await
    }

    async fn append(&self, append: Append<InMemoryValue>) -> Result<Appended, StoreError> {
        let Self { store, history, clock, .. } = self.clone();
        let asked = async move {
            let id = append.saga;
            let appended = store.append(append).await?;
            // A repeated append may be older than what the log says.
            if let Some(record) = store.load(id).await? {
                history.is(id, record.status, clock.now());
            }
            Ok(appended)
        };
        self.process.operation("append", asked).await
    }

    async fn take_abandoned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<TakenOver<InMemoryValue>, StoreError> {
        let Self { store, process, ledger, .. } = self.clone();
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
        let Self { store, process, ledger, .. } = self.clone();
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
        let (own, definition) = (self.clone(), definition.to_owned());
        let purge = async move { own.purge(&definition, age, limit).await };
        self.process.operation("purge definition", purge).await
    }
}
