//! Cases for inboxes.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress_durable::outbox::{Inbox, LONGEST_FOREIGN, MessageId, Receipt, Store};

use super::{GRAIN, Transactions, cases, expect, refused};

/// Runs every case.
pub async fn all<S: Inbox<Tx> + Store, Tx: Send, H: Transactions<S, Tx>>(harness: &H) {
    cases!(harness:
        a_message_is_received_once_by_each_consumer,
        what_is_rolled_back_was_not_received,
        an_id_of_another_system_is_received_once_for_each_source,
        an_operation_that_is_never_polled_has_no_effect,
        only_old_receipts_are_purged,
    );
}

const AGE: Duration = Duration::from_secs(60);

/// Receives message `number` in a transaction that commits.
async fn receive<S: Inbox<Tx>, Tx, H: Transactions<S, Tx>>(
    harness: &H,
    store: &S,
    consumer: &str,
    number: u128,
) -> Receipt {
    let mut tx = harness.begin(store).await;
    let received = store.receive(&mut tx, consumer, MessageId::new(number)).await;
    harness.commit(tx).await;
    expect(received, "receive")
}

async fn a_message_is_received_once_by_each_consumer<S: Inbox<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let expected =
        [("billing", Receipt::First), ("billing", Receipt::Repeated), ("shipping", Receipt::First)];
    for (consumer, receipt) in expected {
        assert_eq!(receive(harness, &store, consumer, u128::MAX - 1).await, receipt);
    }
    let mut tx = harness.begin(&store).await;
    for receipt in [Receipt::First, Receipt::Repeated] {
        let received = store.receive(&mut tx, "billing", MessageId::new(2)).await;
        assert_eq!(expect(received, "receive"), receipt, "twice in one transaction");
    }
    harness.commit(tx).await;
}

async fn what_is_rolled_back_was_not_received<S: Inbox<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    for _ in 0..2 {
        let mut tx = harness.begin(&store).await;
        let received = store.receive(&mut tx, "billing", MessageId::new(1)).await;
        assert_eq!(expect(received, "receive"), Receipt::First);
        harness.roll_back(tx).await;
    }
    assert_eq!(receive(harness, &store, "billing", 1).await, Receipt::First);
}

async fn only_old_receipts_are_purged<S: Inbox<Tx> + Store, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let receive = async |number: u128| receive(harness, &store, "billing", number).await;
    let purge = async |limit| expect(store.purge_receipts(AGE, limit).await, "purge_receipts");
    for number in 1..=3 {
        assert_eq!(receive(number).await, Receipt::First);
    }
    harness.advance(AGE - GRAIN).await;
    assert_eq!(receive(4).await, Receipt::First);
    assert_eq!(purge(100).await, 0, "no entry is old");
    assert_eq!(receive(4).await, Receipt::Repeated);
    harness.advance(GRAIN).await;
    assert_eq!(purge(2).await, 2, "the requested number");
    assert_eq!(purge(100).await, 1);
    assert_eq!(purge(100).await, 0);
    for number in 1..=3 {
        assert_eq!(receive(number).await, Receipt::First, "forgotten: it runs again");
    }
    assert_eq!(receive(4).await, Receipt::Repeated, "young");
}

async fn an_operation_that_is_never_polled_has_no_effect<S: Inbox<Tx> + Store, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let mut tx = harness.begin(&store).await;
    drop(store.receive(&mut tx, "billing", MessageId::new(1)));
    harness.commit(tx).await;
    assert_eq!(receive(harness, &store, "billing", 1).await, Receipt::First);
    harness.advance(AGE).await;
    drop(store.purge_receipts(AGE, 9));
    assert_eq!(expect(store.purge_receipts(AGE, 9).await, "purge_receipts"), 1);
}

async fn an_id_of_another_system_is_received_once_for_each_source<S: Inbox<Tx>, Tx: Send>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let long = "s".repeat(LONGEST_FOREIGN - 8);
    let deliveries = [
        ("billing", "shop", "7"),
        ("billing", "shop", "07"),
        ("billing", "bank", "7"),
        ("shipping", "shop", "7"),
        ("billing", "bank\u{1f}7", "\u{e9}"),
        ("billing", &long, "7"),
    ];
    for receipt in [Receipt::First, Receipt::Repeated] {
        for (consumer, source, id) in deliveries {
            let mut tx = harness.begin(&store).await;
            let received = store.receive_from(&mut tx, consumer, source, id).await;
            harness.commit(tx).await;
            assert_eq!(expect(received, "receive_from"), receipt, "{source} {id}");
        }
    }
    assert_eq!(receive(harness, &store, "billing", 7).await, Receipt::First, "an id of ours");
    let mut tx = harness.begin(&store).await;
    let empty = store.receive_from(&mut tx, "billing", "shop", "").await;
    refused(empty, StoreErrorKind::Invalid, "an empty id");
    harness.roll_back(tx).await;
}
