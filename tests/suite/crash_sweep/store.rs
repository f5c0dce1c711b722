//! Stores of a process that can crash before and after each of their operations.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::outbox::{
    self, Backlog, DeadLetter, Fetched, Lease, MessageId, Owned, RelayId, Settled,
};
use buttress_durable::saga::{
    self, Append, Appended, NewSaga, Record, SagaId, Status, Summary, TakenOver, WorkerId,
};
use buttress_sim::crash::CrashPoints;

#[derive(Clone)]
pub(super) struct Mortal<S> {
    pub(super) store: S,
    pub(super) points: CrashPoints,
}

impl<P: Send + 'static, S: saga::Store<P>> saga::Store<P> for Mortal<S> {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        self.points.around("renew", self.store.renew_worker(worker, lease)).await
    }

    async fn release_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.points.around("retire", self.store.release_worker(worker)).await
    }

    async fn create(&self, saga: NewSaga<P>) -> Result<(), StoreError> {
        self.points.around("create", self.store.create(saga)).await
    }

    async fn append(&self, append: Append<P>) -> Result<Appended, StoreError> {
        self.points.around("append", self.store.append(append)).await
    }

    async fn take_abandoned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<TakenOver<P>, StoreError> {
        let taken = self.store.take_abandoned(worker, definition, version, limit);
        self.points.around("take over", taken).await
    }

    async fn take_saga(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> Result<Option<Record<P>>, StoreError> {
        self.points.around("take", self.store.take_saga(worker, saga)).await
    }

    async fn owned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
    ) -> Result<Vec<SagaId>, StoreError> {
        self.points.around("owned", self.store.owned(worker, definition, version)).await
    }

    async fn load(&self, saga: SagaId) -> Result<Option<Record<P>>, StoreError> {
        self.store.load(saga).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        self.points.around("cancel", self.store.request_cancel(saga)).await
    }

    async fn list(
        &self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        self.store.list(status, after, limit).await
    }

    async fn other_versions(
        &self,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        let others = self.store.other_versions(definition, version, limit);
        self.points.around("other versions", others).await
    }

    async fn purge_sagas(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        self.points.around("purge", self.store.purge_sagas(age, limit)).await
    }

    async fn purge_definition(
        &self,
        definition: &str,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let purge = self.store.purge_definition(definition, age, limit);
        self.points.around("purge definition", purge).await
    }
}

impl<S: outbox::Store> outbox::Store for Mortal<S> {
    async fn lease_partitions(
        &self,
        relay: RelayId,
        lease: Duration,
        busy: &[u16],
    ) -> Result<Owned, StoreError> {
        self.points.around("lease", self.store.lease_partitions(relay, lease, busy)).await
    }

    async fn release_partitions(&self, relay: RelayId) -> Result<(), StoreError> {
        self.points.around("release", self.store.release_partitions(relay)).await
    }

    async fn fetch(
        &self,
        relay: RelayId,
        leases: &[Lease],
        limit: usize,
    ) -> Result<Fetched, StoreError> {
        self.points.around("fetch", self.store.fetch(relay, leases, limit)).await
    }

    async fn record_start(
        &self,
        lease: Lease,
        id: MessageId,
        claim: u64,
    ) -> Result<u32, StoreError> {
        self.points.around("start", self.store.record_start(lease, id, claim)).await
    }

    async fn clear_suspects(&self, lease: Lease) -> Result<(), StoreError> {
        self.points.around("clear suspects", self.store.clear_suspects(lease)).await
    }

    async fn settle(&self, settled: Vec<Settled>) -> Result<Vec<u16>, StoreError> {
        self.points.around("settle", self.store.settle(settled)).await
    }

    async fn dead_letters(&self, after: u64, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.store.dead_letters(after, limit).await
    }

    async fn requeue(&self, ids: &[MessageId]) -> Result<usize, StoreError> {
        self.store.requeue(ids).await
    }

    async fn discard(&self, ids: &[MessageId]) -> Result<usize, StoreError> {
        self.store.discard(ids).await
    }

    async fn backlog(&self) -> Result<Backlog, StoreError> {
        self.store.backlog().await
    }

    async fn purge_delivered(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        self.store.purge_delivered(age, limit).await
    }
}
