//! Sagas that are created in a caller's transaction.

use buttress::StoreErrorKind;
use buttress_durable::saga::{
    CreateIn, NewSaga, Record, SagaId, Status, Store, TakeOver, WorkerId,
};

use super::super::{Transactions, cases, expect, refused};
use super::{LEASE, ONE, TWO, append, changed, saga, take_over};

/// A store that creates sagas in a caller's transaction.
pub(super) trait Creates<Tx>: Store<Vec<u8>> + CreateIn<Tx, Vec<u8>> {}

impl<S: Store<Vec<u8>> + CreateIn<Tx, Vec<u8>>, Tx> Creates<Tx> for S {}

pub(super) async fn all<S: Creates<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    cases!(harness:
        a_saga_that_is_rolled_back_never_was,
        a_saga_that_is_committed_is_taken_once,
        only_unowned_sagas_of_the_version_are_found,
        a_known_id_returns_its_saga,
        a_creation_that_is_never_polled_has_no_effect,
        what_is_too_large_leaves_the_transaction_usable,
    );
}

/// Returns a saga that no worker owns, without entries.
fn new(id: u128) -> NewSaga<Vec<u8>> {
    changed(saga(id, WorkerId::NOBODY), |saga| saga.entries.clear())
}

/// Creates a saga in a transaction that commits.
async fn create<S, Tx, H>(harness: &H, store: &S, saga: NewSaga<Vec<u8>>) -> Option<Record<Vec<u8>>>
where
    S: CreateIn<Tx, Vec<u8>>,
    H: Transactions<S, Tx>,
{
    let mut tx = harness.begin(store).await;
    let known = store.create_in(&mut tx, saga).await;
    harness.commit(tx).await;
    expect(known, "create_in")
}

async fn has_unowned<S: Store<Vec<u8>>>(store: &S) -> bool {
    expect(store.has_unowned("order", 3).await, "has_unowned")
}

async fn a_saga_that_is_rolled_back_never_was<S: Creates<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    for _ in 0..2 {
        let mut tx = harness.begin(&store).await;
        assert_eq!(expect(store.create_in(&mut tx, new(1)).await, "create_in"), None);
        harness.roll_back(tx).await;
        assert_eq!(expect(store.load(SagaId::new(1)).await, "load"), None);
        assert!(!has_unowned(&store).await);
    }
    assert_eq!(take_over(&store, TWO).await, []);
    assert_eq!(create(harness, &store, new(1)).await, None, "the id is free");
}

async fn a_saga_that_is_committed_is_taken_once<S: Creates<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    expect(store.renew_worker(ONE, LEASE).await, "renew");
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    for id in [1, 2] {
        assert_eq!(create(harness, &store, new(id)).await, None);
    }
    let there = harness.reopen(&store).await;
    let record = expect(there.load(SagaId::new(1)).await, "load").unwrap();
    let begun = new(1);
    assert_eq!((record.epoch, record.status, record.entries.len()), (1, Status::Running, 0));
    assert_eq!((record.deadline, record.beginning), (begun.deadline, begun.beginning));
    assert!(has_unowned(&there).await);

    let take = async |store: &S, worker, id| {
        expect(store.take_unowned(worker, SagaId::new(id)).await, "take")
    };
    let taken = take(&store, ONE, 1).await.unwrap();
    assert_eq!((taken.epoch, taken.entries.len()), (2, 0));
    assert_eq!(take(&there, TWO, 1).await, None, "it has a worker");
    assert_eq!(take(&there, ONE, 1).await, None, "its worker has it already");
    assert_eq!(take(&there, ONE, 9).await, None, "it is unknown");
    assert!(
        expect(there.take_saga(TWO, SagaId::new(1)).await, "take").is_none(),
        "its worker is alive"
    );
    assert!(has_unowned(&there).await, "the second saga");
    assert_eq!(take_over(&there, TWO).await, [(SagaId::new(2), 2)]);
    assert!(!has_unowned(&there).await);
    expect(store.append(append(1, 2, 0, Status::Completed)).await, "append");
    let late = store.append(append(2, 1, 0, Status::Running)).await;
    refused(late, StoreErrorKind::Fenced, "under the epoch before the take-over");
    expect(there.append(append(2, 2, 0, Status::Running)).await, "append");
}

async fn only_unowned_sagas_of_the_version_are_found<S: Creates<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    expect(store.renew_worker(ONE, LEASE).await, "renew");
    expect(store.create(saga(1, ONE)).await, "create");
    let other = changed(new(2), |saga| saga.version = 4);
    assert_eq!(create(harness, &store, other).await, None);
    let other = changed(new(3), |saga| saga.definition = "refund".to_owned());
    assert_eq!(create(harness, &store, other).await, None);
    assert!(!has_unowned(&store).await);
    harness.advance(LEASE).await;
    assert!(!has_unowned(&store).await, "a saga of a worker without a lease has an owner");
    let found = expect(store.has_unowned("order", 4).await, "has_unowned");
    assert!(found);
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    let taken = expect(store.take_abandoned(TakeOver::new(TWO, ("order", 4), 9)).await, "take");
    assert_eq!(taken.sagas.len(), 1);
}

async fn a_known_id_returns_its_saga<S: Creates<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    let store = harness.fresh().await;
    expect(store.renew_worker(ONE, LEASE).await, "renew");
    expect(store.create(saga(1, ONE)).await, "create");
    let mut tx = harness.begin(&store).await;
    assert_eq!(expect(store.create_in(&mut tx, new(2)).await, "create_in"), None);
    let other = changed(new(2), |saga| saga.beginning.input = b"[]".to_vec());
    let own = expect(store.create_in(&mut tx, other).await, "create_in").unwrap();
    assert_eq!((own.beginning, own.epoch), (new(2).beginning, 1), "of this transaction");
    let known = expect(store.create_in(&mut tx, new(1)).await, "create_in").unwrap();
    assert_eq!((known.id, known.entries.len()), (SagaId::new(1), 1), "of another caller");
    harness.commit(tx).await;

    expect(store.append(append(1, 1, 1, Status::Completed)).await, "append");
    for (id, status, entries) in [(1, Status::Completed, 2), (2, Status::Running, 0)] {
        let known = create(harness, &store, new(id)).await.unwrap();
        assert_eq!((known.status, known.entries.len()), (status, entries));
        let record = expect(store.load(SagaId::new(id)).await, "load").unwrap();
        assert_eq!(record, known, "it is unchanged");
    }
}

async fn a_creation_that_is_never_polled_has_no_effect<S: Creates<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let mut tx = harness.begin(&store).await;
    drop(store.create_in(&mut tx, new(1)));
    harness.commit(tx).await;
    assert_eq!(expect(store.load(SagaId::new(1)).await, "load"), None);
    assert!(!has_unowned(&store).await);
}

async fn what_is_too_large_leaves_the_transaction_usable<S: Creates<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let mut tx = harness.begin(&store).await;
    let large = changed(new(1), |saga| saga.beginning.input = vec![7; (16 << 20) + 1]);
    // A store in memory holds it.
    let created = store.create_in(&mut tx, large).await;
    if let Err(error) = &created {
        assert_eq!(error.kind(), StoreErrorKind::Invalid, "{error}");
    }
    assert_eq!(expect(store.create_in(&mut tx, new(2)).await, "create_in"), None);
    harness.commit(tx).await;
    let found = expect(store.load(SagaId::new(1)).await, "load");
    assert_eq!(found.is_some(), created.is_ok());
    assert!(expect(store.load(SagaId::new(2)).await, "load").is_some());
}
