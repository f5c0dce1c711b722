//! The owner of each partition, and the messages of a relay that disappeared.

use std::collections::{BTreeMap, BTreeSet};

use buttress_durable::outbox::{Lease, Renewal, Store, Verdict, Write};

use super::super::{GRAIN, Harness, Transactions, both, cases, expect, refused};
use super::{
    FENCED, HOLD, LEASE, ONE, TWO, fetch, found, lease, message, retry, settle, settled, write,
    written,
};

pub(super) async fn all<S: Store + Write<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    cases!(harness:
        relays_share_the_partitions,
        busy_partitions_are_not_given_up,
        what_a_vanished_relay_had_fetched_is_suspect,
        what_a_relay_released_is_not_suspect,
        a_start_is_counted_once,
        an_older_epoch_is_fenced,
        a_take_over_while_a_settlement_is_in_flight,
    );
}

async fn relays_share_the_partitions<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    let all = lease(&store, ONE).await;
    assert!(all.iter().all(|lease| lease.epoch == 1 && lease.suspect_to == 0), "{all:?}");
    assert_eq!(lease(&other, TWO).await, [], "all partitions are leased");
    let half = lease(&store, ONE).await;
    assert_eq!(
        half.len(),
        all.len().div_ceil(2),
        "the second relay is alive and waits for its share"
    );
    let rest = lease(&other, TWO).await;
    assert_eq!(half.len() + rest.len(), all.len());
    let partitions: BTreeSet<u16> = half.iter().chain(&rest).map(|lease| lease.partition).collect();
    assert_eq!(partitions.len(), all.len());
    // The other relay disappears: its partitions are free after its lease has expired, not before.
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(lease(&store, ONE).await.len(), half.len());
    harness.advance(GRAIN).await;
    let again = lease(&store, ONE).await;
    assert_eq!(again.len(), all.len());
    let taken =
        again.iter().filter(|lease| rest.iter().any(|old| old.partition == lease.partition));
    assert!(taken.clone().all(|lease| lease.epoch == 3), "two changes of owner: {taken:?}");
    expect(store.release_partitions(ONE).await, "release");
    assert_eq!(lease(&other, TWO).await.len(), all.len());
}

async fn busy_partitions_are_not_given_up<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let all = lease(&store, ONE).await;
    lease(&store, TWO).await;
    let busy: Vec<u16> = all.iter().map(|lease| lease.partition).collect();
    let owned = expect(store.lease_partitions(Renewal::new(ONE, LEASE, &busy)).await, "lease");
    assert_eq!((owned.leases.len(), owned.surplus), (all.len(), all.len() / 2));
    let owned = expect(store.lease_partitions(Renewal::new(ONE, LEASE, &busy[..3])).await, "lease");
    assert_eq!((owned.leases.len(), owned.surplus), (all.len().div_ceil(2), 0));
    assert!(busy[..3].iter().all(|busy| owned.leases.iter().any(|lease| lease.partition == *busy)));
}

async fn what_a_vanished_relay_had_fetched_is_suspect<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let (store, leases) = written(harness, &[message(1, 1), message(2, 1), message(3, 1)]).await;
    let fetched = fetch(&store, &leases, 2).await.messages;
    harness.advance(LEASE).await;
    let taken = lease(&store, TWO).await;
    let suspect = |leases: &[Lease]| -> BTreeMap<u16, u64> {
        let suspect = leases.iter().filter(|lease| lease.suspect_to > 0);
        suspect.map(|lease| (lease.partition, lease.suspect_to)).collect()
    };
    let expected = BTreeMap::from([(fetched[1].partition, fetched[1].sequence)]);
    assert_eq!(suspect(&taken), expected, "exactly the fetched messages");
    // The second relay disappears too, before it has published anything: the messages stay suspect.
    harness.advance(LEASE).await;
    let again = lease(&store, ONE).await;
    assert_eq!(suspect(&again), expected);
    let lease_of = again.iter().find(|lease| lease.suspect_to > 0).unwrap();
    expect(store.clear_suspects(*lease_of).await, "clear");
    assert_eq!(suspect(&lease(&store, ONE).await), BTreeMap::new());
    let old = taken.iter().find(|lease| lease.partition == lease_of.partition).unwrap();
    refused(store.clear_suspects(*old).await, FENCED, "clear under an old epoch");
}

async fn what_a_relay_released_is_not_suspect<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let (store, leases) = written(harness, &[message(1, 1)]).await;
    assert_eq!(found(&store, &leases).await, [1]);
    expect(store.release_partitions(ONE).await, "release");
    let taken = lease(&store, TWO).await;
    assert!(taken.iter().all(|lease| lease.suspect_to == 0), "{taken:?}");
    assert_eq!(fetch(&store, &leases, 9).await.messages, [], "an old epoch yields nothing");
}

async fn a_start_is_counted_once<S: Store + Write<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    let (store, leases) = written(harness, &[message(1, 1)]).await;
    let fetched = fetch(&store, &leases, 1).await.messages;
    let lease_of = settled(&fetched[0], &leases, Verdict::Delivered).lease;
    for (claim, starts) in [(u64::MAX, 1), (u64::MAX, 1), (7, 2)] {
        let started = store.record_start(lease_of, fetched[0].id, claim).await;
        assert_eq!(expect(started, "start"), starts);
    }
    assert_eq!(fetch(&store, &leases, 1).await.messages[0].starts, 2);
    // The settled message did not crash its relay.
    settle(&store, vec![settled(&fetched[0], &leases, retry())]).await;
    harness.advance(HOLD).await;
    let again = fetch(&store, &leases, 1).await.messages;
    assert_eq!((again[0].starts, again[0].attempts), (0, 1));
    let old = Lease::new(lease_of.partition, lease_of.epoch + 1);
    refused(store.record_start(old, fetched[0].id, 8).await, FENCED, "start under another epoch");
}

async fn an_older_epoch_is_fenced<S: Store + Write<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    let store = harness.fresh().await;
    let old = lease(&store, ONE).await;
    write(harness, &store, &[message(1, 1), message(2, 2)]).await;
    let messages = fetch(&store, &old, 9).await.messages;
    assert_ne!(messages[0].partition, messages[1].partition, "the case needs two partitions");
    harness.advance(LEASE).await;
    let new = lease(&store, TWO).await;
    // Of one call, the store writes the owned messages and refuses the others.
    let batch = vec![
        settled(&messages[0], &old, Verdict::Delivered),
        settled(&messages[1], &new, Verdict::Delivered),
    ];
    let refused = expect(store.settle(batch).await, "settle");
    assert_eq!(refused, [messages[0].partition]);
    assert_eq!(found(&store, &new).await, [1]);
}

async fn a_take_over_while_a_settlement_is_in_flight<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    // Either order is right, but both operations must agree on it.
    for _ in 0..20 {
        let store = harness.fresh().await;
        let other = harness.reopen(&store).await;
        let leases = lease(&store, ONE).await;
        write(harness, &store, &[message(1, 1)]).await;
        let messages = fetch(&store, &leases, 9).await.messages;
        harness.advance(LEASE).await;
        let write = store.settle(vec![settled(&messages[0], &leases, Verdict::Delivered)]);
        let (refused, taken) =
            both(write, other.lease_partitions(Renewal::new(TWO, LEASE, &[]))).await;
        let refused = expect(refused, "settle");
        let taken = expect(taken, "lease").leases;
        let left = found(&other, &taken).await;
        match refused.is_empty() {
            true => assert_eq!(left, [0; 0], "settled before the take-over"),
            false => assert_eq!(left, [1], "refused, so the message is still pending"),
        }
    }
}
