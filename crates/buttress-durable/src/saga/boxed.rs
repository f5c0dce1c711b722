//! [`BoxStore`]: a store of sagas without its type.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::answer::{Answer, Fut};
use crate::boxed::boxed;
use crate::saga::store::{
    Append, Appended, Moved, NewLog, NewSaga, NewSignal, Page, Record, SagaId, Signal,
    SignalAnswer, Store, Summary, TakeOver, TakenOver, WorkerId,
};

/// A store of sagas with its type erased. An application then needs no type parameter for the
/// store.
///
/// Clones share one store. Each operation allocates its future. A box has no
/// [`CreateIn`](crate::saga::CreateIn) and no [`SignalIn`](crate::saga::SignalIn), because transactions have types.
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

boxed! {
    <P>
    {
        keeps_waits() -> bool;
        keeps_signals() -> bool;
        migrates() -> bool;
    }
    renew_worker(worker: WorkerId, lease: Duration) -> Fut<'a, ()>;
    release_worker(worker: WorkerId) -> Fut<'a, ()>;
    create(saga: NewSaga<P>) -> Fut<'a, ()>;
    append(append: Append<P>) -> Fut<'a, Appended>;
    take_abandoned(sagas: TakeOver<'a>) -> Fut<'a, TakenOver<P>>;
    has_due(name: &'a str, version: u32) -> Fut<'a, bool>;
    take_due(sagas: TakeOver<'a>) -> Fut<'a, TakenOver<P>>;
    signal(signal: NewSignal<P>) -> Fut<'a, SignalAnswer>;
    signals(saga: SagaId) -> Fut<'a, Vec<Signal<P>>>;
    take_saga(worker: WorkerId, saga: SagaId) -> Fut<'a, Option<Record<P>>>;
    owned(worker: WorkerId, name: &'a str, version: u32) -> Fut<'a, Vec<SagaId>>;
    has_unowned(name: &'a str, version: u32) -> Fut<'a, bool>;
    take_unowned(worker: WorkerId, saga: SagaId) -> Fut<'a, Option<Record<P>>>;
    load(saga: SagaId) -> Fut<'a, Option<Record<P>>>;
    request_cancel(saga: SagaId) -> Fut<'a, bool>;
    list(page: Page) -> Fut<'a, Vec<Summary>>;
    other_versions(name: &'a str, known: &'a [u32], limit: usize) -> Fut<'a, Vec<Summary>>;
    migrate(log: NewLog<P>) -> Fut<'a, Moved>;
    purge_sagas(name: Option<&'a str>, age: Duration, limit: usize) -> Fut<'a, usize>;
}

impl<P: 'static + Send> Store<P> for BoxStore<P> {
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Answer<()> {
        self.store.renew_worker(worker, lease).await
    }

    async fn release_worker(&self, worker: WorkerId) -> Answer<()> {
        self.store.release_worker(worker).await
    }

    async fn create(&self, saga: NewSaga<P>) -> Answer<()> {
        self.store.create(saga).await
    }

    async fn append(&self, append: Append<P>) -> Answer<Appended> {
        self.store.append(append).await
    }

    async fn take_abandoned(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<P>> {
        self.store.take_abandoned(sagas).await
    }

    fn keeps_waits(&self) -> bool {
        self.store.keeps_waits()
    }

    async fn has_due(&self, name: &str, version: u32) -> Answer<bool> {
        self.store.has_due(name, version).await
    }

    async fn take_due(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<P>> {
        self.store.take_due(sagas).await
    }

    fn keeps_signals(&self) -> bool {
        self.store.keeps_signals()
    }

    async fn signal(&self, signal: NewSignal<P>) -> Answer<SignalAnswer> {
        self.store.signal(signal).await
    }

    async fn signals(&self, saga: SagaId) -> Answer<Vec<Signal<P>>> {
        self.store.signals(saga).await
    }

    async fn take_saga(&self, worker: WorkerId, saga: SagaId) -> Answer<Option<Record<P>>> {
        self.store.take_saga(worker, saga).await
    }

    async fn owned(&self, worker: WorkerId, name: &str, version: u32) -> Answer<Vec<SagaId>> {
        self.store.owned(worker, name, version).await
    }

    async fn has_unowned(&self, name: &str, version: u32) -> Answer<bool> {
        self.store.has_unowned(name, version).await
    }

    async fn take_unowned(&self, worker: WorkerId, saga: SagaId) -> Answer<Option<Record<P>>> {
        self.store.take_unowned(worker, saga).await
    }

    async fn load(&self, saga: SagaId) -> Answer<Option<Record<P>>> {
        self.store.load(saga).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Answer<bool> {
        self.store.request_cancel(saga).await
    }

    async fn list(&self, page: Page) -> Answer<Vec<Summary>> {
        self.store.list(page).await
    }

    async fn other_versions(&self, of: &str, known: &[u32], limit: usize) -> Answer<Vec<Summary>> {
        self.store.other_versions(of, known, limit).await
    }

    fn migrates(&self) -> bool {
        self.store.migrates()
    }

    async fn migrate(&self, log: NewLog<P>) -> Answer<Moved> {
        self.store.migrate(log).await
    }

    async fn purge_sagas(&self, name: Option<&str>, age: Duration, limit: usize) -> Answer<usize> {
        self.store.purge_sagas(name, age, limit).await
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
