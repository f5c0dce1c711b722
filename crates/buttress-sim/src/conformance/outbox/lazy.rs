//! Operations that are never polled.

use std::time::Duration;

use buttress_durable::outbox::{Renewal, Store, Verdict, Write};

use super::super::{Transactions, cases, expect};
use super::{LEASE, ONE, TWO, dead, fetch, found, lease, message, settle, settled, write};

pub(super) async fn all<S: Store + Write<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    cases!(harness: an_operation_that_is_never_polled_has_no_effect);
}

async fn an_operation_that_is_never_polled_has_no_effect<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    drop(store.lease_partitions(Renewal::new(TWO, LEASE, &[])));
    let leases = lease(&store, ONE).await;
    assert!(leases.iter().all(|lease| lease.epoch == 1), "lease: {leases:?}");
    drop(store.release_partitions(ONE));
    assert_eq!(lease(&store, TWO).await, [], "release");
    // The second relay has left the store, so it has no share.
    expect(store.release_partitions(TWO).await, "release");
    let leases = lease(&store, ONE).await;

    let mut tx = harness.begin(&store).await;
    drop(store.write(&mut tx, &message(1, 1)));
    harness.commit(tx).await;
    assert_eq!(found(&store, &leases).await, [0; 0], "write");
    write(harness, &store, &[message(1, 1), message(2, 2)]).await;
    let messages = fetch(&store, &leases, 9).await.messages;
    drop(store.settle(vec![settled(&messages[0], &leases, Verdict::Delivered)]));
    assert_eq!(found(&store, &leases).await, [1, 2], "settle");
    let own = leases.iter().find(|lease| lease.partition == messages[0].partition).unwrap();
    drop(store.record_start(*own, messages[0].id, 1));
    assert_eq!(expect(store.record_start(*own, messages[0].id, 2).await, "start"), 1);

    settle(&store, vec![settled(&messages[0], &leases, Verdict::Delivered)]).await;
    settle(&store, vec![settled(&messages[1], &leases, dead(true))]).await;
    let id = messages[1].id;
    drop(store.requeue(&[id]));
    drop(store.discard(&[id]));
    assert_eq!(expect(store.dead_letters(0, 9).await, "dead_letters").len(), 1);
    assert_eq!(expect(store.requeue(&[id]).await, "requeue"), 1, "requeue, discard");
    harness.advance(Duration::from_secs(60)).await;
    drop(store.purge_delivered(Duration::ZERO, 9));
    assert_eq!(expect(store.purge_delivered(Duration::ZERO, 9).await, "purge"), 1);
}
