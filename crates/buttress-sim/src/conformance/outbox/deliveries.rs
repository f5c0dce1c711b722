//! The ends of deliveries: settled, held, dead, purged.

use std::time::Duration;

use buttress_durable::outbox::{Message, MessageId, Store, Verdict, Write};

use super::super::{GRAIN, Transactions, cases, expect};
use super::{
    HOLD, LEASE, ONE, dead, fetch, fetched, found, lease, message, numbers, retry, settle, settled,
    write, written,
};

pub(super) async fn all<S: Store + Write<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    cases!(harness:
        a_settlement_whose_answer_was_lost,
        a_failed_message_holds_its_key,
        a_dead_letter_lets_its_key_go_on,
        a_dead_letter_that_holds_its_key,
        dead_letters_are_paged_and_discarded,
        rows_behind_a_held_key_delay_no_others,
        the_backlog_is_counted,
        only_old_deliveries_are_purged,
    );
}

async fn a_settlement_whose_answer_was_lost<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let (store, leases, messages) = fetched(harness, &[message(1, 1), message(2, 2)]).await;
    let batch = vec![
        settled(&messages[0], &leases, Verdict::Delivered),
        settled(&messages[1], &leases, dead(false)),
    ];
    settle(&store, batch.clone()).await;
    settle(&store, batch).await;
    assert_eq!(found(&store, &leases).await, [0; 0]);
    let letters = expect(store.dead_letters(0, 9).await, "dead_letters");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].message.attempts, 1, "one attempt before it died");
    // A late verdict does not revive the message.
    settle(&store, vec![settled(&messages[0], &leases, retry())]).await;
    harness.advance(HOLD).await;
    assert_eq!(found(&store, &leases).await, [0; 0]);
}

async fn a_failed_message_holds_its_key<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let (store, leases, messages) =
        fetched(harness, &[message(1, 1), message(2, 1), message(3, 2)]).await;
    settle(&store, vec![settled(&messages[0], &leases, retry())]).await;
    let fetched = fetch(&store, &leases, 9).await;
    assert_eq!(numbers(&fetched.messages), [3], "only messages of its key wait");
    assert_eq!(fetched.next_due, Some(fetched.now + HOLD));
    harness.advance(HOLD - GRAIN).await;
    assert_eq!(found(&store, &leases).await, [3]);
    harness.advance(GRAIN).await;
    let fetched = fetch(&store, &leases, 9).await.messages;
    assert_eq!(numbers(&fetched), [1, 2, 3], "at its old place");
    assert_eq!(fetched[0].attempts, 1);
    let uncounted = Verdict::Retry { counts: false, after: HOLD, error: String::new() };
    settle(&store, vec![settled(&fetched[0], &leases, uncounted)]).await;
    harness.advance(HOLD).await;
    assert_eq!(fetch(&store, &leases, 1).await.messages[0].attempts, 1);
}

async fn a_dead_letter_lets_its_key_go_on<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let (store, leases, messages) = fetched(harness, &[message(1, 1), message(2, 1)]).await;
    settle(&store, vec![settled(&messages[0], &leases, dead(false))]).await;
    assert_eq!(found(&store, &leases).await, [2]);
    let letters = expect(store.dead_letters(0, 9).await, "dead_letters");
    assert_eq!(numbers(&[letters[0].message.clone()]), [1]);
    assert_eq!((letters[0].error.as_str(), letters[0].holds_key), ("no", false));
    assert_eq!(letters[0].message.payload, messages[0].payload);
    assert_eq!(expect(store.requeue(&[messages[0].id, messages[1].id]).await, "requeue"), 1);
    let again = fetch(&store, &leases, 9).await.messages;
    assert_eq!(numbers(&again), [1, 2], "at its old place");
    assert_eq!((again[0].attempts, again[0].starts), (0, 0));
    assert_eq!(expect(store.dead_letters(0, 9).await, "dead_letters"), []);
}

async fn a_dead_letter_that_holds_its_key<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let written = [message(1, 1), message(2, 1), message(3, 2), message(4, 3), message(5, 3)];
    let (store, leases, messages) = fetched(harness, &written).await;
    let batch = vec![
        settled(&messages[0], &leases, dead(true)),
        settled(&messages[3], &leases, dead(true)),
    ];
    settle(&store, batch).await;
    harness.advance(HOLD).await;
    let fetched = fetch(&store, &leases, 9).await;
    assert_eq!(numbers(&fetched.messages), [3]);
    assert_eq!(fetched.next_due, None, "only an operator releases these keys");
    assert!(
        expect(store.dead_letters(0, 9).await, "dead_letters").iter().all(|dead| dead.holds_key)
    );
    assert_eq!(expect(store.requeue(&[messages[0].id]).await, "requeue"), 1);
    assert_eq!(expect(store.discard(&[messages[3].id]).await, "discard"), 1);
    assert_eq!(found(&store, &leases).await, [1, 2, 3, 5]);
}

async fn dead_letters_are_paged_and_discarded<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let written: Vec<_> = (1..=5).map(|number| message(number, number)).collect();
    let (store, leases, messages) = fetched(harness, &written).await;
    let batch = messages.iter().map(|message| settled(message, &leases, dead(false)));
    settle(&store, batch.collect()).await;
    let page = async |after| {
        let letters = expect(store.dead_letters(after, 2).await, "dead_letters");
        letters.into_iter().map(|letter| letter.message.sequence).collect::<Vec<_>>()
    };
    let first = page(0).await;
    assert_eq!(first, [messages[0].sequence, messages[1].sequence]);
    assert_eq!(page(first[1]).await, [messages[2].sequence, messages[3].sequence]);
    let ids = [messages[0].id, messages[1].id, MessageId::new(0)];
    assert_eq!(expect(store.discard(&ids).await, "discard"), 2);
    assert_eq!(expect(store.discard(&ids).await, "discard"), 0);
    assert_eq!(page(0).await, [messages[2].sequence, messages[3].sequence]);
    assert_eq!(expect(store.requeue(&ids).await, "requeue"), 0, "deleted permanently");
}

async fn rows_behind_a_held_key_delay_no_others<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let held: Vec<_> = (1..=1000).map(|number| message(number, 1)).collect();
    let (store, leases) = written(harness, &held).await;
    let first = fetch(&store, &leases, 1).await.messages;
    settle(&store, vec![settled(&first[0], &leases, dead(true))]).await;
    let others: Vec<_> = (1001..=1040).map(|number| message(number, number)).collect();
    write(harness, &store, &others).await;
    let fetched = fetch(&store, &leases, 10).await;
    assert_eq!(numbers(&fetched.messages), (1001..=1010).collect::<Vec<_>>());
    let batch = fetched.messages.iter().map(|found| settled(found, &leases, Verdict::Delivered));
    settle(&store, batch.collect()).await;
    assert_eq!(numbers(&fetch(&store, &leases, 3).await.messages), [1011, 1012, 1013]);
    assert_eq!(expect(store.discard(&[first[0].id]).await, "discard"), 1);
    assert_eq!(numbers(&fetch(&store, &leases, 3).await.messages), [2, 3, 4]);
}

async fn the_backlog_is_counted<S: Store + Write<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    let store = harness.fresh().await;
    assert_eq!(expect(store.backlog().await, "backlog").oldest_age, Duration::ZERO);
    let leases = lease(&store, ONE).await;
    let written = [message(1, 1), message(2, 2), message(3, 3), message(4, 4).delay(LEASE)];
    write(harness, &store, &written).await;
    let messages = fetch(&store, &leases, 9).await.messages;
    harness.advance(GRAIN).await;
    let batch = vec![
        settled(&messages[0], &leases, Verdict::Delivered),
        settled(&messages[1], &leases, dead(true)),
        settled(&messages[2], &leases, retry()),
    ];
    settle(&store, batch).await;
    harness.advance(GRAIN).await;
    let backlog = expect(store.backlog().await, "backlog");
    assert_eq!((backlog.pending, backlog.dead, backlog.held_keys), (2, 1, 2));
    assert_eq!(backlog.oldest_age, 2 * GRAIN);
    harness.advance(HOLD).await;
    assert_eq!(expect(store.backlog().await, "backlog").held_keys, 1);
}

async fn only_old_deliveries_are_purged<S: Store + Write<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let written: Vec<_> = (1..=5).map(|number| message(number, number)).collect();
    let (store, leases, messages) = fetched(harness, &written).await;
    let deliver = |found: &Message| settled(found, &leases, Verdict::Delivered);
    settle(&store, messages[..2].iter().map(deliver).collect()).await;
    harness.advance(HOLD).await;
    settle(&store, vec![deliver(&messages[2]), settled(&messages[3], &leases, dead(false))]).await;
    let purge = async |limit| expect(store.purge_delivered(HOLD, limit).await, "purge");
    assert_eq!(purge(1).await, 1);
    assert_eq!(purge(9).await, 1);
    assert_eq!(purge(9).await, 0);
    harness.advance(HOLD).await;
    assert_eq!(purge(9).await, 1, "dead and pending ones are never purged");
    assert_eq!(found(&store, &leases).await, [5]);
}
