//! The operations of stores of sagas.

use std::time::Duration;

use buttress::StoreError;
use buttress_durable::saga::{
    Append, Appended, NewSaga, Record, SagaId, Status, Store, Summary, TakenOver, WorkerId,
};

use super::{Hook, Hooked};

/// An operation of a [`Store`], with its arguments.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(missing_docs, reason = "the methods of the store have the names and the arguments")]
pub enum Operation<P> {
    RenewWorker { worker: WorkerId, lease: Duration },
    ReleaseWorker { worker: WorkerId },
    Create { saga: NewSaga<P> },
    Append { append: Append<P> },
    TakeAbandoned { worker: WorkerId, definition: String, version: u32, limit: usize },
    TakeSaga { worker: WorkerId, saga: SagaId },
    Owned { worker: WorkerId, definition: String, version: u32 },
    Load { saga: SagaId },
    RequestCancel { saga: SagaId },
    List { status: Option<Status>, after: Option<SagaId>, limit: usize },
    OtherVersions { definition: String, version: u32, limit: usize },
    PurgeSagas { age: Duration, limit: usize },
    PurgeDefinition { definition: String, age: Duration, limit: usize },
}

impl<P: Send + 'static> super::Operation for Operation<P> {
    fn name(&self) -> &'static str {
        match self {
            Self::RenewWorker { .. } => "renew_worker",
            Self::ReleaseWorker { .. } => "release_worker",
            Self::Create { .. } => "create",
            Self::Append { .. } => "append",
            Self::TakeAbandoned { .. } => "take_abandoned",
            Self::TakeSaga { .. } => "take_saga",
            Self::Owned { .. } => "owned",
            Self::Load { .. } => "load",
            Self::RequestCancel { .. } => "request_cancel",
            Self::List { .. } => "list",
            Self::OtherVersions { .. } => "other_versions",
            Self::PurgeSagas { .. } => "purge_sagas",
            Self::PurgeDefinition { .. } => "purge_definition",
        }
    }
}

impl<P, S, H> Store<P> for Hooked<S, H>
where
    P: Clone + Send + Sync + 'static,
    S: Store<P> + Clone,
    H: Hook<Operation<P>>,
{
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Result<(), StoreError> {
        let run = async move |store: S| store.renew_worker(worker, lease).await;
        self.pass(Operation::RenewWorker { worker, lease }, run).await
    }

    async fn release_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        let run = async move |store: S| store.release_worker(worker).await;
        self.pass(Operation::ReleaseWorker { worker }, run).await
    }

    async fn create(&self, saga: NewSaga<P>) -> Result<(), StoreError> {
        let operation = Operation::Create { saga: saga.clone() };
        self.pass(operation, async move |store: S| store.create(saga).await).await
    }

    async fn append(&self, append: Append<P>) -> Result<Appended, StoreError> {
        let operation = Operation::Append { append: append.clone() };
        self.pass(operation, async move |store: S| store.append(append).await).await
    }

    async fn take_abandoned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<TakenOver<P>, StoreError> {
        let name = definition.to_owned();
        let operation =
            Operation::TakeAbandoned { worker, definition: name.clone(), version, limit };
        let run = async move |store: S| store.take_abandoned(worker, &name, version, limit).await;
        self.pass(operation, run).await
    }

    async fn take_saga(
        &self,
        worker: WorkerId,
        saga: SagaId,
    ) -> Result<Option<Record<P>>, StoreError> {
        let run = async move |store: S| store.take_saga(worker, saga).await;
        self.pass(Operation::TakeSaga { worker, saga }, run).await
    }

    async fn owned(
        &self,
        worker: WorkerId,
        definition: &str,
        version: u32,
    ) -> Result<Vec<SagaId>, StoreError> {
        let name = definition.to_owned();
        let operation = Operation::Owned { worker, definition: name.clone(), version };
        let run = async move |store: S| store.owned(worker, &name, version).await;
        self.pass(operation, run).await
    }

    async fn load(&self, saga: SagaId) -> Result<Option<Record<P>>, StoreError> {
        let run = async move |store: S| store.load(saga).await;
        self.pass(Operation::Load { saga }, run).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Result<bool, StoreError> {
        let run = async move |store: S| store.request_cancel(saga).await;
        self.pass(Operation::RequestCancel { saga }, run).await
    }

    async fn list(
        &self,
        status: Option<Status>,
        after: Option<SagaId>,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        let run = async move |store: S| store.list(status, after, limit).await;
        self.pass(Operation::List { status, after, limit }, run).await
    }

    async fn other_versions(
        &self,
        definition: &str,
        version: u32,
        limit: usize,
    ) -> Result<Vec<Summary>, StoreError> {
        let name = definition.to_owned();
        let operation = Operation::OtherVersions { definition: name.clone(), version, limit };
        let run = async move |store: S| store.other_versions(&name, version, limit).await;
        self.pass(operation, run).await
    }

    async fn purge_sagas(&self, age: Duration, limit: usize) -> Result<usize, StoreError> {
        let run = async move |store: S| store.purge_sagas(age, limit).await;
        self.pass(Operation::PurgeSagas { age, limit }, run).await
    }

    async fn purge_definition(
        &self,
        definition: &str,
        age: Duration,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let name = definition.to_owned();
        let operation = Operation::PurgeDefinition { definition: name.clone(), age, limit };
        let run = async move |store: S| store.purge_definition(&name, age, limit).await;
        self.pass(operation, run).await
    }
}
