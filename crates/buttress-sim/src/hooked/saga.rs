//! The operations of stores of sagas.

use std::time::Duration;

use buttress_durable::Answer;
use buttress_durable::saga::{
    Append, Appended, CreateIn, Moved, NewLog, NewSaga, NewSignal, Page, Record, SagaId, Signal,
    SignalAnswer, SignalIn, Store, Summary, TakeOver, TakenOver, WorkerId,
};

use super::{Hook, Hooked, operations};

operations! {
    /// An operation of a [`Store`], with its arguments.
    <P>
    RenewWorker "renew_worker" { worker: WorkerId, lease: Duration }
    ReleaseWorker "release_worker" { worker: WorkerId }
    Create "create" { saga: NewSaga<P> }
    Append "append" { append: Append<P> }
    TakeAbandoned "take_abandoned" { worker: WorkerId, definition: String, version: u32, limit: usize }
    HasDue "has_due" { definition: String, version: u32 }
    TakeDue "take_due" { worker: WorkerId, definition: String, version: u32, limit: usize }
    Signal "signal" { signal: NewSignal<P> }
    Signals "signals" { saga: SagaId }
    TakeSaga "take_saga" { worker: WorkerId, saga: SagaId }
    Owned "owned" { worker: WorkerId, definition: String, version: u32 }
    HasUnowned "has_unowned" { definition: String, version: u32 }
    TakeUnowned "take_unowned" { worker: WorkerId, saga: SagaId }
    Load "load" { saga: SagaId }
    RequestCancel "request_cancel" { saga: SagaId }
    List "list" { page: Page }
    OtherVersions "other_versions" { definition: String, known: Vec<u32>, limit: usize }
    Migrate "migrate" { log: NewLog<P> }
    PurgeSagas "purge_sagas" { definition: Option<String>, age: Duration, limit: usize }
}

impl<P, S, H> Store<P> for Hooked<S, H>
where
    P: Clone + Send + Sync + 'static,
    S: Store<P> + Clone,
    H: Hook<Operation<P>>,
{
    async fn renew_worker(&self, worker: WorkerId, lease: Duration) -> Answer<()> {
        let run = async move |store: S| store.renew_worker(worker, lease).await;
        self.pass(Operation::RenewWorker { worker, lease }, run).await
    }

    async fn release_worker(&self, worker: WorkerId) -> Answer<()> {
        let run = async move |store: S| store.release_worker(worker).await;
        self.pass(Operation::ReleaseWorker { worker }, run).await
    }

    async fn create(&self, saga: NewSaga<P>) -> Answer<()> {
        let operation = Operation::Create { saga: saga.clone() };
        self.pass(operation, async move |store: S| store.create(saga).await).await
    }

    async fn append(&self, append: Append<P>) -> Answer<Appended> {
        let operation = Operation::Append { append: append.clone() };
        self.pass(operation, async move |store: S| store.append(append).await).await
    }

    async fn take_abandoned(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<P>> {
        let TakeOver { worker, definition, version, limit, .. } = sagas;
        let name = definition.to_owned();
        let operation =
            Operation::TakeAbandoned { worker, definition: name.clone(), version, limit };
        let run = async move |store: S| {
            store.take_abandoned(TakeOver::new(worker, (&name, version), limit)).await
        };
        self.pass(operation, run).await
    }

    fn keeps_waits(&self) -> bool {
        self.store().keeps_waits()
    }

    async fn has_due(&self, name: &str, version: u32) -> Answer<bool> {
        let name = name.to_owned();
        let operation = Operation::HasDue { definition: name.clone(), version };
        self.pass(operation, async move |store: S| store.has_due(&name, version).await).await
    }

    async fn take_due(&self, sagas: TakeOver<'_>) -> Answer<TakenOver<P>> {
        let TakeOver { worker, definition, version, limit, .. } = sagas;
        let name = definition.to_owned();
        let operation = Operation::TakeDue { worker, definition: name.clone(), version, limit };
        let run = async move |store: S| {
            store.take_due(TakeOver::new(worker, (&name, version), limit)).await
        };
        self.pass(operation, run).await
    }

    fn keeps_signals(&self) -> bool {
        self.store().keeps_signals()
    }

    async fn signal(&self, signal: NewSignal<P>) -> Answer<SignalAnswer> {
        let operation = Operation::Signal { signal: signal.clone() };
        self.pass(operation, async move |store: S| store.signal(signal).await).await
    }

    async fn signals(&self, saga: SagaId) -> Answer<Vec<Signal<P>>> {
        let run = async move |store: S| store.signals(saga).await;
        self.pass(Operation::Signals { saga }, run).await
    }

    async fn take_saga(&self, worker: WorkerId, saga: SagaId) -> Answer<Option<Record<P>>> {
        let run = async move |store: S| store.take_saga(worker, saga).await;
        self.pass(Operation::TakeSaga { worker, saga }, run).await
    }

    async fn owned(&self, worker: WorkerId, name: &str, version: u32) -> Answer<Vec<SagaId>> {
        let name = name.to_owned();
        let operation = Operation::Owned { worker, definition: name.clone(), version };
        let run = async move |store: S| store.owned(worker, &name, version).await;
        self.pass(operation, run).await
    }

    async fn has_unowned(&self, name: &str, version: u32) -> Answer<bool> {
        let name = name.to_owned();
        let operation = Operation::HasUnowned { definition: name.clone(), version };
        self.pass(operation, async move |store: S| store.has_unowned(&name, version).await).await
    }

    async fn take_unowned(&self, worker: WorkerId, saga: SagaId) -> Answer<Option<Record<P>>> {
        let run = async move |store: S| store.take_unowned(worker, saga).await;
        self.pass(Operation::TakeUnowned { worker, saga }, run).await
    }

    async fn load(&self, saga: SagaId) -> Answer<Option<Record<P>>> {
        let run = async move |store: S| store.load(saga).await;
        self.pass(Operation::Load { saga }, run).await
    }

    async fn request_cancel(&self, saga: SagaId) -> Answer<bool> {
        let run = async move |store: S| store.request_cancel(saga).await;
        self.pass(Operation::RequestCancel { saga }, run).await
    }

    async fn list(&self, page: Page) -> Answer<Vec<Summary>> {
        let run = async move |store: S| store.list(page).await;
        self.pass(Operation::List { page }, run).await
    }

    async fn other_versions(&self, of: &str, known: &[u32], limit: usize) -> Answer<Vec<Summary>> {
        let (name, known) = (of.to_owned(), known.to_vec());
        let operation =
            Operation::OtherVersions { definition: name.clone(), known: known.clone(), limit };
        let run = async move |store: S| store.other_versions(&name, &known, limit).await;
        self.pass(operation, run).await
    }

    fn migrates(&self) -> bool {
        self.store().migrates()
    }

    async fn migrate(&self, log: NewLog<P>) -> Answer<Moved> {
        let operation = Operation::Migrate { log: log.clone() };
        self.pass(operation, async move |store: S| store.migrate(log).await).await
    }

    async fn purge_sagas(&self, name: Option<&str>, age: Duration, limit: usize) -> Answer<usize> {
        let name = name.map(str::to_owned);
        let operation = Operation::PurgeSagas { definition: name.clone(), age, limit };
        let run = async move |store: S| store.purge_sagas(name.as_deref(), age, limit).await;
        self.pass(operation, run).await
    }
}

impl<Tx: Send, P: Send, S: Send + Sync, H: CreateIn<Tx, P>> CreateIn<Tx, P> for Hooked<S, H> {
    async fn create_in(&self, tx: &mut Tx, saga: NewSaga<P>) -> Answer<Option<Record<P>>> {
        self.hook().create_in(tx, saga).await
    }
}

impl<Tx: Send, P: Send, S: Send + Sync, H: SignalIn<Tx, P>> SignalIn<Tx, P> for Hooked<S, H> {
    async fn signal_in(&self, tx: &mut Tx, signal: NewSignal<P>) -> Answer<SignalAnswer> {
        self.hook().signal_in(tx, signal).await
    }
}
