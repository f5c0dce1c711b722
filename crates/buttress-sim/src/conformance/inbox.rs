//! Cases for inboxes.

use std::time::Duration;

use buttress_durable::outbox::{Inbox, MessageId, Passage, Receipt, Store};
use buttress_durable::saga::SagaId;

use super::{GRAIN, Transactions, cases, expect};

/// Runs every case.
pub async fn all<S: Inbox<Tx> + Store, Tx, H: Transactions<S, Tx>>(harness: &H) {
    cases!(harness:
        a_message_is_received_once_by_each_consumer,
        what_is_rolled_back_was_not_received,
        an_action_and_its_undo_happen_once,
        an_undo_that_comes_first_keeps_its_action_out,
        steps_and_sagas_are_kept_apart,
        an_operation_that_is_never_polled_has_no_effect,
        only_old_receipts_are_purged,
        a_barrier_is_as_old_as_the_last_that_came,
    );
}

const SAGA: SagaId = SagaId::new(7);

async fn a_message_is_received_once_by_each_consumer<S: Inbox<Tx>, Tx, H: Transactions<S, Tx>>(
    harness: &H,
) {
    let store = harness.fresh().await;
    let expected =
        [("billing", Receipt::First), ("billing", Receipt::Repeated), ("shipping", Receipt::First)];
    for (consumer, receipt) in expected {
        let mut tx = harness.begin(&store).await;
        let message = MessageId::new(u128::MAX - 1);
        assert_eq!(expect(store.receive(&mut tx, consumer, message).await, "receive"), receipt);
        harness.commit(tx).await;
    }
    let mut tx = harness.begin(&store).await;
    for receipt in [Receipt::First, Receipt::Repeated] {
        let received = store.receive(&mut tx, "billing", MessageId::new(2)).await;
        assert_eq!(expect(received, "receive"), receipt, "twice in one transaction");
    }
    harness.commit(tx).await;
}

async fn what_is_rolled_back_was_not_received<S: Inbox<Tx>, Tx, H: Transactions<S, Tx>>(
    harness: &H,
) {
    let store = harness.fresh().await;
    for _ in 0..2 {
        let mut tx = harness.begin(&store).await;
        let received = store.receive(&mut tx, "billing", MessageId::new(1)).await;
        assert_eq!(expect(received, "receive"), Receipt::First);
        let undone = store.undo(&mut tx, SAGA, "charge").await;
        assert_eq!(expect(undone, "undo"), Passage::Overtaken);
        harness.roll_back(tx).await;
    }
    let mut tx = harness.begin(&store).await;
    assert_eq!(expect(store.action(&mut tx, SAGA, "charge").await, "action"), Passage::Proceed);
    harness.commit(tx).await;
}

async fn an_action_and_its_undo_happen_once<S: Inbox<Tx>, Tx, H: Transactions<S, Tx>>(harness: &H) {
    let store = harness.fresh().await;
    for passage in [Passage::Proceed, Passage::Repeated] {
        let mut tx = harness.begin(&store).await;
        assert_eq!(expect(store.action(&mut tx, SAGA, "charge").await, "action"), passage);
        harness.commit(tx).await;
    }
    for passage in [Passage::Proceed, Passage::Repeated] {
        let mut tx = harness.begin(&store).await;
        assert_eq!(expect(store.undo(&mut tx, SAGA, "charge").await, "undo"), passage);
        harness.commit(tx).await;
    }
    // A late repetition of the action: it must not run again.
    let mut tx = harness.begin(&store).await;
    assert_eq!(expect(store.action(&mut tx, SAGA, "charge").await, "action"), Passage::Overtaken);
    harness.commit(tx).await;
}

async fn an_undo_that_comes_first_keeps_its_action_out<S: Inbox<Tx>, Tx, H: Transactions<S, Tx>>(
    harness: &H,
) {
    let store = harness.fresh().await;
    for _ in 0..2 {
        let mut tx = harness.begin(&store).await;
        assert_eq!(expect(store.undo(&mut tx, SAGA, "charge").await, "undo"), Passage::Overtaken);
        harness.commit(tx).await;
    }
    for _ in 0..2 {
        let mut tx = harness.begin(&store).await;
        let acted = store.action(&mut tx, SAGA, "charge").await;
        assert_eq!(expect(acted, "action"), Passage::Overtaken);
        harness.commit(tx).await;
    }
}

async fn steps_and_sagas_are_kept_apart<S: Inbox<Tx>, Tx, H: Transactions<S, Tx>>(harness: &H) {
    let store = harness.fresh().await;
    let mut tx = harness.begin(&store).await;
    for (saga, step) in [(7, "charge"), (7, "ship"), (8, "charge")] {
        let acted = store.action(&mut tx, SagaId::new(saga), step).await;
        assert_eq!(expect(acted, "action"), Passage::Proceed);
    }
    harness.commit(tx).await;
}

const AGE: Duration = Duration::from_secs(60);

async fn only_old_receipts_are_purged<S: Inbox<Tx> + Store, Tx, H: Transactions<S, Tx>>(
    harness: &H,
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
    assert_eq!(receive(4).await, repeated);
    harness.advance(GRAIN).await;
    assert_eq!(purge(2).await, 2, "the requested number");
    assert_eq!(purge(100).await, 4);
    assert_eq!(purge(100).await, 0);
    for number in 1..=3 {
        assert_eq!(receive(number).await, first, "forgotten: it runs again");
    }
    assert_eq!(receive(4).await, repeated, "young");
}

async fn a_barrier_is_as_old_as_the_last_that_came<
    S: Inbox<Tx> + Store,
    Tx,
    H: Transactions<S, Tx>,
>(
    harness: &H,
) {
    let store = harness.fresh().await;
    let mut tx = harness.begin(&store).await;
    assert_eq!(expect(store.action(&mut tx, SAGA, "charge").await, "action"), Passage::Proceed);
    harness.commit(tx).await;
    harness.advance(AGE - GRAIN).await;
    let mut tx = harness.begin(&store).await;
    assert_eq!(expect(store.undo(&mut tx, SAGA, "charge").await, "undo"), Passage::Proceed);
    harness.commit(tx).await;
    harness.advance(GRAIN).await;
    expect(store.purge_receipts(AGE, 100).await, "purge_receipts");
    // A late action is rejected as long as the inbox remembers the undo.
    let mut tx = harness.begin(&store).await;
    let acted = store.action(&mut tx, SAGA, "charge").await;
    assert_eq!(expect(acted, "action"), Passage::Overtaken);
    harness.commit(tx).await;
}

async fn an_operation_that_is_never_polled_has_no_effect<
    S: Inbox<Tx> + Store,
    Tx,
    H: Transactions<S, Tx>,
>(
    harness: &H,
) {
    let store = harness.fresh().await;
    let mut tx = harness.begin(&store).await;
    let message = MessageId::new(1);
    drop(store.receive(&mut tx, "billing", message));
    drop(store.action(&mut tx, SAGA, "charge"));
    drop(store.undo(&mut tx, SAGA, "charge"));
    harness.commit(tx).await;
    let mut tx = harness.begin(&store).await;
    let received = store.receive(&mut tx, "billing", message).await;
    assert_eq!(expect(received, "receive"), Receipt::First);
    assert_eq!(expect(store.action(&mut tx, SAGA, "charge").await, "action"), Passage::Proceed);
    harness.commit(tx).await;
    harness.advance(AGE).await;
    drop(store.purge_receipts(AGE, 9));
    assert_eq!(expect(store.purge_receipts(AGE, 9).await, "purge_receipts"), 2);
}
