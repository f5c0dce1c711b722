//! Cases for stores of saga logs.

mod lazy;
mod logs;
mod migrations;
mod owners;
mod signals;
mod signals_in;
mod transactions;
mod versions;
mod waits;

use std::time::Duration;

use buttress_durable::saga::{
    Append, Beginning, CreateIn, Entry, NewSaga, SagaId, SignalIn, Status, Store, TakeOver,
    WorkerId,
};

use super::{Harness, Transactions, expect};

const LEASE: Duration = Duration::from_secs(10);
const ONE: WorkerId = WorkerId::new(1);
const TWO: WorkerId = WorkerId::new(2);
const THREE: WorkerId = WorkerId::new(3);

/// Runs every case. Skips the cases of waiting sagas, of signals and of moves to another version if the store does not
/// keep [waiting sagas](Store::keeps_waits) or [signals](Store::keeps_signals), or does not
/// [move sagas](Store::migrates).
pub async fn all<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    logs::all(harness).await;
    lazy::all(harness).await;
    owners::all(harness).await;
    if harness.fresh().await.keeps_waits() {
        waits::all(harness).await;
        versions::all(harness).await;
        if harness.fresh().await.migrates() {
            migrations::all(harness).await;
        }
    }
    if harness.fresh().await.keeps_signals() {
        signals::all(harness).await;
    }
}

/// Runs every case of signals that are sent in a caller's transaction.
pub async fn signals_in_transactions<S, Tx, H>(harness: &H)
where
    S: Store<Vec<u8>> + SignalIn<Tx, Vec<u8>>,
    H: Transactions<S, Tx>,
{
    signals_in::all(harness).await;
}

/// Runs every case of sagas that are created in a caller's transaction.
pub async fn in_transactions<S, Tx, H>(harness: &H)
where
    S: Store<Vec<u8>> + CreateIn<Tx, Vec<u8>>,
    H: Transactions<S, Tx>,
{
    transactions::all(harness).await;
}

/// Returns `value` after `change`.
fn changed<T>(mut value: T, change: impl FnOnce(&mut T)) -> T {
    change(&mut value);
    value
}

fn done(step: u16, output: &[u8]) -> Entry<Vec<u8>> {
    Entry::ActionDone { step, output: output.to_vec() }
}

fn saga(id: u128, worker: WorkerId) -> NewSaga<Vec<u8>> {
    let beginning = Beginning::new(b"{}".to_vec());
    let mut saga = NewSaga::new(SagaId::new(id), ("order", 3), "json", worker, beginning);
    saga.deadline = Some(Duration::from_secs(2_000_000_000));
    saga.entries.push(Entry::ActionStarted { step: 0 });
    saga
}

fn append(id: u128, epoch: u64, position: u64, status: Status) -> Append<Vec<u8>> {
    Append::new(SagaId::new(id), epoch, position, vec![done(0, b"7")], status)
}

/// Returns a store in which worker one is alive and runs these sagas.
async fn with<S: Store<Vec<u8>>>(harness: &impl Harness<S>, sagas: &[u128]) -> S {
    let store = harness.fresh().await;
    expect(store.renew_worker(ONE, LEASE).await, "renew");
    for id in sagas {
        expect(store.create(saga(*id, ONE)).await, "create");
    }
    store
}

async fn take_over<S: Store<Vec<u8>>>(store: &S, worker: WorkerId) -> Vec<(SagaId, u64)> {
    let taken =
        expect(store.take_abandoned(TakeOver::new(worker, ("order", 3), 100)).await, "take_over");
    assert_eq!(taken.corrupt, []);
    taken.sagas.into_iter().map(|record| (record.id, record.epoch)).collect()
}
