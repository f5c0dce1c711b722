//! [`BoxStore`]: a store of sagas without its type.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use buttress::StoreError;

use crate::saga::model::entry::Status;
use crate::saga::store::{
    Append, Appended, NewSaga, Record, SagaId, Store, Summary, TakenOver, WorkerId,
};

type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// A store of sagas with its type erased. An application then needs no type parameter for the
/// store.
///
/// Clones share one store. Each operation allocates its future.
pub struct BoxStore<P> {
    store: Arc<dyn Boxed<P>>,
}

impl<P: Send + 'static> BoxStore<P> {
    /// Erases the type of `store`.
    #[must_use]
    pub fn new(store: impl Store<P>) -> Self {
        Self { store: Arc::new(store) }
    }
}

/// A [`Store`] whose methods return boxed futures, so that it can be a trait object.
trait Boxed<P>: Send + Sync {
    fn renew_worker<'a>(&'a self, worker: WorkerId, lease: Duration) -> Answer<'a, ()>;

    fn release_worker<'a>(&'a self, worker: WorkerId) -> Answer<'a, ()>;

    fn create<'a>(&'a self, saga: NewSaga<P>) -> Answer<'a, ()>;

    fn append<'a>(&'a self, append: Append<P>) -> Answer<'a, Appended>;

    fn take_abandoned<'a>(
        &'a self,
        worker: WorkerId,
        definition: &'a str,
        version: u32,
        limit: usize,
    ) -> Answer<'a, TakenOver<P>>;

    fn take_saga<'a>(&'a self, worker: WorkerId, saga: SagaId) -> Answer<'a, Option<Record<P>>>;

    fn owned<'a>(
        &'a self,
        worker: WorkerId,
        definition: &'a str,
        version: u32,
    ) -> Answer<'a, Vec<SagaId>>;

    fn load<'a>(&'a self, saga: SagaId) -> Answer<'a, Option<Record<P>>>;

    fn request_cancel<'a>(&'a self, saga: SagaId) -> Answer<'a, bool>;

    fn list<'a>(
        &'a self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> Answer<'a, Vec<Summary>>;

    fn other_versions<'a>(
        &'a self,
        definition: &'a str,
        version: u32,
        limit: usize,
    ) -> Answer<'a, Vec<Summary>>;

    fn purge_sagas<'a>(&'a self, age: Duration, limit: usize) -> Answer<'a, usize>;

    fn purge_definition<'a>(
        &'a self,
        definition: &'a str,
        age: Duration,
        limit: usize,
    ) -> Answer<'a, usize>;
}

impl<P: 'static, S: Store<P>> Boxed<P> for S {
    fn renew_worker<'a>(&'a self, worker: WorkerId, lease: Duration) -> Answer<'a, ()> {
        Box::pin(Store::renew_worker(self, worker, lease))
    }

    fn release_worker<'a>(&'a self, worker: WorkerId) -> Answer<'a, ()> {
        Box::pin(Store::release_worker(self, worker))
    }

    fn create<'a>(&'a self, saga: NewSaga<P>) -> Answer<'a, ()> {
        Box::pin(Store::create(self, saga))
    }

    fn append<'a>(&'a self, append: Append<P>) -> Answer<'a, Appended> {
        Box::pin(Store::append(self, append))
    }

    fn take_abandoned<'a>(
        &'a self,
        worker: WorkerId,
        definition: &'a str,
        version: u32,
        limit: usize,
    ) -> Answer<'a, TakenOver<P>> {
        Box::pin(Store::take_abandoned(self, worker, definition, version, limit))
    }

    fn take_saga<'a>(&'a self, worker: WorkerId, saga: SagaId) -> Answer<'a, Option<Record<P>>> {
        Box::pin(Store::take_saga(self, worker, saga))
    }

    fn owned<'a>(
        &'a self,
        worker: WorkerId,
        definition: &'a str,
        version: u32,
    ) -> Answer<'a, Vec<SagaId>> {
        Box::pin(Store::owned(self, worker, definition, version))
    }

    fn load<'a>(&'a self, saga: SagaId) -> Answer<'a, Option<Record<P>>> {
        Box::pin(Store::load(self, saga))
    }

    fn request_cancel<'a>(&'a self, saga: SagaId) -> Answer<'a, bool> {
        Box::pin(Store::request_cancel(self, saga))
    }

    fn list<'a>(
        &'a self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> Answer<'a, Vec<Summary>> {
        Box::pin(Store::list(self, status, after, limit))
    }

    fn other_versions<'a>(
        &'a self,
        definition: &'a str,
        version: u32,
        limit: usize,
    ) -> Answer<'a, Vec<Summary>> {
        Box::pin(Store::other_versions(self, definition, version, limit))
    }

    fn purge_sagas<'a>(&'a self, age: Duration, limit: usize) -> Answer<'a, usize> {
        Box::pin(Store::purge_sagas(self, age, limit))
    }

    fn purge_definition<'a>(
        &'a self,
        definition: &'a str,
        age: Duration,
        limit: usize,
    ) -> Answer<'a, usize> {
        Box::pin(Store::purge_definition(self, definition, age, limit))
    }
}

impl<P: 'static + Send> Store<P> for BoxStore<P> {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        self.store.renew_worker(worker, lease).await
    }

    async fn release_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        self.store.release_worker(worker).await
    }

    async fn create(&self, saga: NewSaga<P>) -> Result<(), StoreError> {
        self.store.create(saga).await
    }

    async fn append(&self, append: Append<P>) -> Result<Appended, StoreError> {
        self.store.append(append).await
    }

    async fn take_abandoned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<TakenOver<P>, StoreError> {
        self.store.take_abandoned(worker, definition, version, limit).await
    }

    async fn take_saga(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> Result<Option<Record<P>>, StoreError> {
        self.store.take_saga(worker, saga).await
    }

    async fn owned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
    ) -> Result<Vec<SagaId>, StoreError> {
        self.store.owned(worker, definition, version).await
    }

    async fn load(&self, saga: SagaId) -> Result<Option<Record<P>>, StoreError> {
        self.store.load(saga).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        self.store.request_cancel(saga).await
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
        self.store.other_versions(definition, version, limit).await
    }

    async fn purge_sagas(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        self.store.purge_sagas(age, limit).await
    }

    async fn purge_definition(
        &self,
        definition: &str,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        self.store.purge_definition(definition, age, limit).await
    }
}

impl<P> Clone for BoxStore<P> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone() }
    }
}

impl<P> fmt::Debug for BoxStore<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoxStore").finish_non_exhaustive()
    }
}
