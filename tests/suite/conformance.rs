//! The conformance suites of the stores in memory, also behind boxes, hooks and shared pointers.

use std::any::Any;
use std::sync::Arc;

use buttress::idempotency::{CompleteIn, Completion, MemoryStore, MemoryTransaction};
use buttress::{Answer, Clock};
use buttress_durable::consume::MemoryDeadLetters;
use buttress_durable::outbox::{NewMessage, Write};
use buttress_durable::saga::{CreateIn, NewSaga, NewSignal, Record, SignalAnswer, SignalIn};
use buttress_durable::{event_store, outbox, saga};
use buttress_sim::conformance;
use buttress_sim::hooked::{Hook, Hooked, Run};

use crate::support::harness::{Begin, Under};

/// A hook without an effect, and the store that writes in transactions.
#[derive(Clone)]
struct Through<S>(S);

/// The store in memory behind a box.
type Boxed = Hooked<outbox::BoxStore, Through<outbox::MemoryStore>>;

impl<O: Send + 'static, S: Send + Sync + 'static> Hook<O> for Through<S> {
    async fn around<T: Any + Send>(&self, _: O, run: Run<T>) -> Answer<T> {
        run.await
    }
}

impl Write<outbox::MemoryTransaction> for Through<outbox::MemoryStore> {
    async fn write(&self, tx: &mut outbox::MemoryTransaction, message: &NewMessage) -> Answer<()> {
        self.0.write(tx, message).await
    }

    async fn lock_key(&self, tx: &mut outbox::MemoryTransaction, key: &str) -> Answer<()> {
        self.0.lock_key(tx, key).await
    }
}

impl CompleteIn<MemoryTransaction<Vec<u8>>, Vec<u8>> for Through<MemoryStore<Vec<u8>>> {
    async fn complete_in(
        &self,
        tx: &mut MemoryTransaction<Vec<u8>>,
        completion: Completion<'_, Vec<u8>>,
    ) -> Answer<()> {
        self.0.complete_in(tx, completion).await
    }
}

impl<S: Clone, W: Begin> Begin for Hooked<S, Through<W>> {
    type Tx = W::Tx;

    fn begin(&self) -> Self::Tx {
        self.hook().0.begin()
    }
}

/// A store of sagas in memory, and the store whose transactions create them.
#[derive(Clone)]
struct WithSagas {
    outbox: outbox::MemoryStore,
    sagas: saga::MemoryStore<Vec<u8>>,
}

impl Begin for WithSagas {
    type Tx = outbox::MemoryTransaction;

    fn begin(&self) -> Self::Tx {
        self.outbox.begin()
    }
}

impl CreateIn<outbox::MemoryTransaction, Vec<u8>> for Through<WithSagas> {
    async fn create_in(
        &self,
        tx: &mut outbox::MemoryTransaction,
        saga: NewSaga<Vec<u8>>,
    ) -> Answer<Option<Record<Vec<u8>>>> {
        self.0.sagas.create_in(tx, saga).await
    }
}

impl SignalIn<outbox::MemoryTransaction, Vec<u8>> for Through<WithSagas> {
    async fn signal_in(
        &self,
        tx: &mut outbox::MemoryTransaction,
        signal: NewSignal<Vec<u8>>,
    ) -> Answer<SignalAnswer> {
        self.0.sagas.signal_in(tx, signal).await
    }
}

fn sagas(clock: Clock) -> saga::MemoryStore<Vec<u8>> {
    saga::MemoryStore::of_bytes(clock)
}

fn results(clock: Clock) -> MemoryStore<Vec<u8>> {
    MemoryStore::new(clock)
}

#[tokio::test]
async fn saga_store() {
    conformance::saga::all(&Under::new(sagas)).await;
}

#[tokio::test]
async fn boxed_saga_store() {
    conformance::saga::all(&Under::new(|clock| saga::BoxStore::new(sagas(clock)))).await;
}

#[tokio::test]
async fn hooked_saga_store() {
    conformance::saga::all(&Under::new(|clock| Hooked::new(sagas(clock), Through(())))).await;
}

#[tokio::test]
async fn saga_store_in_transactions() {
    let store = |clock: Clock| {
        let (outbox, sagas) = (outbox::MemoryStore::new(clock.clone()), sagas(clock));
        Hooked::new(sagas.clone(), Through(WithSagas { outbox, sagas }))
    };
    conformance::saga::in_transactions(&Under::new(store)).await;
    conformance::saga::signals_in_transactions(&Under::new(store)).await;
}

#[tokio::test]
async fn outbox_store() {
    conformance::outbox::all(&Under::new(outbox::MemoryStore::new)).await;
}

#[tokio::test]
async fn boxed_and_hooked_outbox_store() {
    let store = |clock| {
        let memory = outbox::MemoryStore::new(clock);
        Boxed::new(outbox::BoxStore::new(memory.clone()), Through(memory))
    };
    conformance::outbox::all(&Under::new(store)).await;
}

#[tokio::test]
async fn inbox() {
    conformance::inbox::all(&Under::new(outbox::MemoryStore::new)).await;
}

#[tokio::test]
async fn events_2_16_dead_letters() {
    conformance::dead_letters::all(&Under::new(MemoryDeadLetters::new)).await;
}

#[tokio::test]
async fn event_store() {
    let harness = Under::new(event_store::MemoryStore::new);
    conformance::event_store::all(&harness).await;
    conformance::event_store::overlapping(&harness).await;
}

#[tokio::test]
async fn barrier() {
    let outboxes = Under::new(outbox::MemoryStore::new);
    conformance::barrier::all(&outboxes).await;
    conformance::barrier::retention(&outboxes).await;
}

#[tokio::test]
async fn idempotency_store() {
    conformance::idempotency::all(&Under::new(results)).await;
}

#[tokio::test]
async fn idempotency_store_in_transactions() {
    conformance::idempotency::transactional(&Under::new(results)).await;
}

#[tokio::test]
async fn shared_idempotency_store() {
    conformance::idempotency::all(&Under::new(|clock| Arc::new(results(clock)))).await;
}

#[tokio::test]
async fn hooked_idempotency_store() {
    let harness = Under::new(|clock| {
        let memory = results(clock);
        Hooked::new(memory.clone(), Through(memory))
    });
    conformance::idempotency::all(&harness).await;
    conformance::idempotency::transactional(&harness).await;
}
