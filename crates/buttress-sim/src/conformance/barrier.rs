//! Cases for barriers.

use std::time::Duration;

use buttress_durable::outbox::{Inbox, MessageId, Receipt, Store};
use buttress_durable::saga::{Barrier, Passage, SagaId};

use super::{GRAIN, Transactions, cases, expect};

/// Runs the cases that need only a barrier.
pub async fn all<S: Barrier<Tx>, Tx, H: Transactions<S, Tx>>(harness: &H) {
    cases!(harness:
        an_action_and_its_undo_happen_once,
        an_undo_before_its_action_keeps_it_out,
        steps_and_sagas_are_kept_apart,
        what_is_rolled_back_did_not_pass,
        an_operation_without_a_poll_does_nothing,
    );
}

/// Runs the cases of a store whose outbox removes the old records of its barrier and of its inbox.
pub async fn retention<S: Barrier<Tx> + Inbox<Tx> + Store, Tx, H: Transactions<S, Tx>>(
    harness: &H,
) {
    cases!(harness:
        a_purge_counts_receipts_and_records_together,
        a_record_is_as_old_as_the_last_call,
    );
}

const SAGA: SagaId = SagaId::new(7);
const AGE: Duration = Duration::from_secs(60);

/// Calls the barrier for the action of a step, in a transaction that commits.
async fn act<S: Barrier<Tx>, Tx, H: Transactions<S, Tx>>(harness: &H, store: &S) -> Passage {
    let mut tx = harness.begin(store).await;
    let passage = expect(store.action(&mut tx, SAGA, "charge").await, "action");
    harness.commit(tx).await;
    passage
}

/// Calls the barrier for the undo of a step, in a transaction that commits.
async fn undo<S: Barrier<Tx>, Tx, H: Transactions<S, Tx>>(harness: &H, store: &S) -> Passage {
    let mut tx = harness.begin(store).await;
    let passage = expect(store.undo(&mut tx, SAGA, "charge").await, "undo");
    harness.commit(tx).await;
    passage
}

async fn an_action_and_its_undo_happen_once<S: Barrier<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    for passage in [Passage::Proceed, Passage::Repeated] {
        assert_eq!(act(harness, &store).await, passage);
    }
    for passage in [Passage::Proceed, Passage::Repeated] {
        assert_eq!(undo(harness, &store).await, passage);
    }
    assert_eq!(act(harness, &store).await, Passage::Overtaken, "a late repetition must not run");
}

async fn an_undo_before_its_action_keeps_it_out<S: Barrier<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    for _ in 0..2 {
        assert_eq!(undo(harness, &store).await, Passage::Overtaken);
    }
    for _ in 0..2 {
        assert_eq!(act(harness, &store).await, Passage::Overtaken);
    }
}

async fn steps_and_sagas_are_kept_apart<S: Barrier<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    let store = harness.fresh().await;
    let mut tx = harness.begin(&store).await;
    for (saga, step) in [(7, "charge"), (7, "ship"), (8, "charge")] {
        let acted = store.action(&mut tx, SagaId::new(saga), step).await;
        assert_eq!(expect(acted, "action"), Passage::Proceed);
    }
    harness.commit(tx).await;
}

async fn what_is_rolled_back_did_not_pass<S: Barrier<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    let store = harness.fresh().await;
    for _ in 0..2 {
        let mut tx = harness.begin(&store).await;
        let undone = store.undo(&mut tx, SAGA, "charge").await;
        assert_eq!(expect(undone, "undo"), Passage::Overtaken);
        harness.roll_back(tx).await;
    }
    assert_eq!(act(harness, &store).await, Passage::Proceed);
}

async fn an_operation_without_a_poll_does_nothing<S: Barrier<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let mut tx = harness.begin(&store).await;
    drop(store.action(&mut tx, SAGA, "charge"));
    drop(store.undo(&mut tx, SAGA, "charge"));
    harness.commit(tx).await;
    assert_eq!(act(harness, &store).await, Passage::Proceed);
}

async fn a_purge_counts_receipts_and_records_together<S: Barrier<Tx> + Inbox<Tx> + Store, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let receive = async |number: u128| {
        let mut tx = harness.begin(&store).await;
        let received = store.receive(&mut tx, "billing", MessageId::new(number)).await;
        let acted = store.action(&mut tx, SagaId::new(number), "charge").await;
        harness.commit(tx).await;
        (expect(received, "receive"), expect(acted, "action"))
    };
    let purge = async |limit| expect(store.purge_receipts(AGE, limit).await, "purge_receipts");
    let (first, repeated) =
        ((Receipt::First, Passage::Proceed), (Receipt::Repeated, Passage::Repeated));
    for number in 1..=3 {
        assert_eq!(receive(number).await, first);
    }
    harness.advance(AGE - GRAIN).await;
    assert_eq!(receive(4).await, first);
    assert_eq!(purge(100).await, 0, "no entry is old");
    harness.advance(GRAIN).await;
    assert_eq!(purge(2).await, 2, "the requested number");
    assert_eq!(purge(100).await, 4);
    assert_eq!(purge(100).await, 0);
    for number in 1..=3 {
        assert_eq!(receive(number).await, first, "forgotten: it runs again");
    }
    assert_eq!(receive(4).await, repeated, "young");
}

async fn a_record_is_as_old_as_the_last_call<S: Barrier<Tx> + Inbox<Tx> + Store, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    assert_eq!(act(harness, &store).await, Passage::Proceed);
    harness.advance(AGE - GRAIN).await;
    assert_eq!(undo(harness, &store).await, Passage::Proceed);
    harness.advance(GRAIN).await;
    expect(store.purge_receipts(AGE, 100).await, "purge_receipts");
    // A late action is rejected as long as the barrier remembers the undo.
    assert_eq!(act(harness, &store).await, Passage::Overtaken);
    harness.advance(AGE).await;
    drop(store.purge_receipts(AGE, 9));
    assert_eq!(expect(store.purge_receipts(AGE, 9).await, "purge_receipts"), 1, "not polled");
}
