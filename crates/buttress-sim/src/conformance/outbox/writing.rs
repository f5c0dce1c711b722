//! Writing messages and fetching them.

use buttress::StoreErrorKind;
use buttress_durable::outbox::{Lease, MessageId, NewMessage, Store, Write};

use super::super::{GRAIN, Transactions, cases, expect, refused};
use super::{HOLD, ONE, fetch, found, key, lease, leased, message, numbers, write, written};

pub(super) async fn all<S: Store + Write<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    cases!(harness:
        a_message_exists_once_it_is_committed,
        what_is_written_is_fetched,
        messages_come_in_order_of_transactions,
        what_no_store_could_hold_is_refused,
        a_delayed_message_holds_up_nobody,
    );
}

async fn a_message_exists_once_it_is_committed<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let (store, leases) = leased(harness).await;
    let mut tx = harness.begin(&store).await;
    expect(store.write(&mut tx, &message(1, 1)).await, "write");
    harness.roll_back(tx).await;
    assert_eq!(found(&store, &leases).await, [0; 0]);
    let mut tx = harness.begin(&store).await;
    expect(store.lock_key(&mut tx, &key(1)).await, "lock_key");
    expect(store.write(&mut tx, &message(1, 1)).await, "write after the roll-back");
    expect(store.write(&mut tx, &message(2, 2)).await, "write");
    harness.commit(tx).await;
    assert_eq!(found(&harness.reopen(&store).await, &leases).await, [1, 2]);
}

async fn what_is_written_is_fetched<S: Store + Write<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    let store = harness.fresh().await;
    let written =
        NewMessage::new(MessageId::new(u128::MAX), "größe", (0..=255).collect::<Vec<u8>>())
            .topic("orders")
            .header("trace", "'; -- \"{}[]")
            .header("trace", "twice");
    write(harness, &store, std::slice::from_ref(&written)).await;
    let leases = lease(&store, ONE).await;
    let fetched = fetch(&store, &leases, 9).await;
    let [found] = &fetched.messages[..] else { panic!("{fetched:?}") };
    assert_eq!((found.id, &found.key, &found.topic), (written.id, &written.key, &written.topic));
    assert_eq!((&found.payload, &found.headers), (&written.payload, &written.headers));
    assert_eq!((found.attempts, found.starts, found.due_at), (0, 0, fetched.now));
    assert!(leases.iter().any(|lease| lease.partition == found.partition));
    assert_eq!(fetch(&store, &leases, 9).await.messages, fetched.messages, "unsettled, so again");
}

async fn messages_come_in_order_of_transactions<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let (store, leases) = leased(harness).await;
    for round in 0..10 {
        let both = [message(2 * round, round % 3), message(2 * round + 1, round % 2)];
        write(harness, &store, &both).await;
    }
    assert_eq!(found(&store, &leases).await, (0..20).collect::<Vec<_>>());
    let some = fetch(&store, &leases, 7).await;
    assert_eq!(numbers(&some.messages), (0..7).collect::<Vec<_>>(), "the oldest of all partitions");
    let few: Vec<Lease> = leases.iter().take(3).copied().collect();
    let some = fetch(&store, &few, 99).await.messages;
    assert!(
        some.iter().all(|message| few.iter().any(|lease| lease.partition == message.partition))
    );
}

async fn what_no_store_could_hold_is_refused<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let id = MessageId::new(1);
    let wrong = [
        NewMessage::new(id, "", "x"),
        NewMessage::new(id, "k".repeat(NewMessage::LONGEST_KEY + 1), "x"),
        NewMessage::new(id, "k", vec![0; NewMessage::LARGEST_PAYLOAD + 1]),
    ];
    let mut tx = harness.begin(&store).await;
    for message in &wrong {
        refused(store.write(&mut tx, message).await, StoreErrorKind::Invalid, "write");
    }
    // The statement had no effect, so the transaction continues.
    let largest = NewMessage::new(id, "k".repeat(NewMessage::LONGEST_KEY), "x");
    expect(store.write(&mut tx, &largest).await, "write");
    harness.commit(tx).await;
    assert_eq!(found(&store, &lease(&store, ONE).await).await.len(), 1);
}

async fn a_delayed_message_holds_up_nobody<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let (store, leases) = written(harness, &[message(1, 1).delay(HOLD), message(2, 1)]).await;
    let fetched = fetch(&store, &leases, 9).await;
    assert_eq!(numbers(&fetched.messages), [2]);
    assert_eq!(fetched.next_due, Some(fetched.now + HOLD));
    harness.advance(HOLD - GRAIN).await;
    assert_eq!(found(&store, &leases).await, [2]);
    harness.advance(GRAIN).await;
    let fetched = fetch(&store, &leases, 9).await;
    assert_eq!(numbers(&fetched.messages), [1, 2]);
    assert_eq!(fetched.messages[0].due_at, fetched.now);
}
