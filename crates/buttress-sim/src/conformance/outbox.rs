//! Stores of messages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use buttress::StoreErrorKind;
use buttress::outbox::{
    Fetched, Lease, Message, MessageId, NewMessage, RelayId, Settled, Store, Verdict, Write,
};

use super::{GRAIN, Transactions, both, cases, expect, refused};

const LEASE: Duration = Duration::from_secs(10);
const HOLD: Duration = Duration::from_secs(3);
const ONE: RelayId = RelayId::new(1);
const TWO: RelayId = RelayId::new(2);
const FENCED: StoreErrorKind = StoreErrorKind::Fenced;

/// Every case.
pub async fn all<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    cases!(harness:
        a_message_exists_when_its_transaction_is_committed,
        what_is_written_is_fetched,
        messages_come_in_the_order_of_their_transactions,
        what_no_store_could_hold_is_refused,
        a_delayed_message_holds_up_nobody,
        relays_share_the_partitions,
        busy_partitions_are_not_given_up,
        what_a_vanished_relay_had_fetched_is_suspect,
        what_a_relay_released_is_not_suspect,
        a_start_is_counted_once,
        an_older_epoch_is_fenced,
        a_settlement_whose_answer_was_lost,
        a_failed_message_holds_its_key,
        a_dead_letter_lets_its_key_go_on,
        a_dead_letter_that_holds_its_key,
        dead_letters_come_in_pages_and_can_be_discarded,
        a_thousand_rows_behind_a_held_key_delay_nobody,
        the_backlog_is_counted,
        only_what_was_delivered_long_ago_is_purged,
        a_take_over_while_a_settlement_is_in_flight,
    );
}

/// Keys in partitions of their own, as far as possible.
fn key(number: u32) -> String {
    format!("key-{number}")
}

fn message(id: u32, key_number: u32) -> NewMessage {
    NewMessage::new(MessageId::new(u128::from(id) << 64 | 1), key(key_number), id.to_be_bytes())
}

async fn write<S, Tx, H>(harness: &H, store: &S, messages: &[NewMessage])
where
    S: Write<Tx>,
    H: Transactions<S, Tx>,
{
    let mut tx = harness.begin(store).await;
    for message in messages {
        expect(store.write(&mut tx, message).await, "write");
    }
    harness.commit(tx).await;
}

async fn lease<S: Store>(store: &S, relay: RelayId) -> Vec<Lease> {
    expect(store.lease(relay, LEASE, &[]).await, "lease").leases
}

async fn fetch<S: Store>(store: &S, leases: &[Lease], limit: usize) -> Fetched {
    expect(store.fetch(ONE, leases, limit).await, "fetch")
}

/// The numbers of the messages that a new look finds.
async fn found<S: Store>(store: &S, leases: &[Lease]) -> Vec<u32> {
    numbers(&fetch(store, leases, 10_000).await.messages)
}

fn numbers(messages: &[Message]) -> Vec<u32> {
    messages.iter().map(|message| (message.id.get() >> 64) as u32).collect()
}

fn settled(message: &Message, leases: &[Lease], verdict: Verdict) -> Settled {
    let lease = leases.iter().find(|lease| lease.partition == message.partition);
    Settled {
        id: message.id,
        sequence: message.sequence,
        key: message.key.clone(),
        due_at: message.due_at,
        lease: *lease.unwrap(),
        verdict,
    }
}

fn retry() -> Verdict {
    Verdict::Retry { counts: true, after: HOLD, error: "away".to_owned() }
}

fn dead(hold_key: bool) -> Verdict {
    Verdict::Dead { error: "no".to_owned(), hold_key }
}

/// Settles, which nobody refuses.
async fn settle<S: Store>(store: &S, settled: Vec<Settled>) {
    assert_eq!(expect(store.settle(settled).await, "settle"), [0u16; 0]);
}

async fn a_message_exists_when_its_transaction_is_committed<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
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

async fn what_is_written_is_fetched<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
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

async fn messages_come_in_the_order_of_their_transactions<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
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

async fn what_no_store_could_hold_is_refused<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
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
    // Nothing was done, so the transaction goes on.
    let largest = NewMessage::new(id, "k".repeat(NewMessage::LONGEST_KEY), "x");
    expect(store.write(&mut tx, &largest).await, "write");
    harness.commit(tx).await;
    assert_eq!(found(&store, &lease(&store, ONE).await).await.len(), 1);
}

async fn a_delayed_message_holds_up_nobody<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    write(harness, &store, &[message(1, 1).delay(HOLD), message(2, 1)]).await;
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

async fn relays_share_the_partitions<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let other = harness.reopen(&store).await;
    let all = lease(&store, ONE).await;
    assert!(all.iter().all(|lease| lease.epoch == 1 && lease.suspect_to == 0), "{all:?}");
    assert_eq!(lease(&other, TWO).await, [], "all are taken");
    let half = lease(&store, ONE).await;
    assert_eq!(half.len(), all.len().div_ceil(2), "the other is alive and waits for its share");
    let rest = lease(&other, TWO).await;
    assert_eq!(half.len() + rest.len(), all.len());
    let partitions: BTreeSet<u16> = half.iter().chain(&rest).map(|lease| lease.partition).collect();
    assert_eq!(partitions.len(), all.len());
    // The other vanishes: its share is free when its lease has run out, not before.
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(lease(&store, ONE).await.len(), half.len());
    harness.advance(GRAIN).await;
    let again = lease(&store, ONE).await;
    assert_eq!(again.len(), all.len());
    let taken =
        again.iter().filter(|lease| rest.iter().any(|old| old.partition == lease.partition));
    assert!(taken.clone().all(|lease| lease.epoch == 3), "two changes of owner: {taken:?}");
    expect(store.release(ONE).await, "release");
    assert_eq!(lease(&other, TWO).await.len(), all.len());
}

async fn busy_partitions_are_not_given_up<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let all = lease(&store, ONE).await;
    lease(&store, TWO).await;
    let busy: Vec<u16> = all.iter().map(|lease| lease.partition).collect();
    let owned = expect(store.lease(ONE, LEASE, &busy).await, "lease");
    assert_eq!((owned.leases.len(), owned.surplus), (all.len(), all.len() / 2));
    let owned = expect(store.lease(ONE, LEASE, &busy[..3]).await, "lease");
    assert_eq!((owned.leases.len(), owned.surplus), (all.len().div_ceil(2), 0));
    assert!(busy[..3].iter().all(|busy| owned.leases.iter().any(|lease| lease.partition == *busy)));
}

async fn what_a_vanished_relay_had_fetched_is_suspect<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    write(harness, &store, &[message(1, 1), message(2, 1), message(3, 1)]).await;
    let fetched = fetch(&store, &leases, 2).await.messages;
    harness.advance(LEASE).await;
    let taken = lease(&store, TWO).await;
    let suspect = |leases: &[Lease]| -> BTreeMap<u16, u64> {
        let suspect = leases.iter().filter(|lease| lease.suspect_to > 0);
        suspect.map(|lease| (lease.partition, lease.suspect_to)).collect()
    };
    let expected = BTreeMap::from([(fetched[1].partition, fetched[1].sequence)]);
    assert_eq!(suspect(&taken), expected, "what was fetched, and no more");
    // It vanishes too, before it has looked at anything: the suspicion stays.
    harness.advance(LEASE).await;
    let again = lease(&store, ONE).await;
    assert_eq!(suspect(&again), expected);
    let lease_of = again.iter().find(|lease| lease.suspect_to > 0).unwrap();
    expect(store.clear_suspects(*lease_of).await, "clear");
    assert_eq!(suspect(&lease(&store, ONE).await), BTreeMap::new());
    let old = taken.iter().find(|lease| lease.partition == lease_of.partition).unwrap();
    refused(store.clear_suspects(*old).await, FENCED, "clear under an old epoch");
}

async fn what_a_relay_released_is_not_suspect<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    write(harness, &store, &[message(1, 1)]).await;
    assert_eq!(found(&store, &leases).await, [1]);
    expect(store.release(ONE).await, "release");
    let taken = lease(&store, TWO).await;
    assert!(taken.iter().all(|lease| lease.suspect_to == 0), "{taken:?}");
    assert_eq!(fetch(&store, &leases, 9).await.messages, [], "an old epoch yields nothing");
}

async fn a_start_is_counted_once<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    write(harness, &store, &[message(1, 1)]).await;
    let fetched = fetch(&store, &leases, 1).await.messages;
    let lease_of = settled(&fetched[0], &leases, Verdict::Delivered).lease;
    for (claim, starts) in [(u64::MAX, 1), (u64::MAX, 1), (7, 2)] {
        let started = store.start(lease_of, fetched[0].id, claim).await;
        assert_eq!(expect(started, "start"), starts);
    }
    assert_eq!(fetch(&store, &leases, 1).await.messages[0].starts, 2);
    // It has shown that it does not bring a relay down.
    settle(&store, vec![settled(&fetched[0], &leases, retry())]).await;
    harness.advance(HOLD).await;
    let again = fetch(&store, &leases, 1).await.messages;
    assert_eq!((again[0].starts, again[0].attempts), (0, 1));
    let old = Lease { epoch: lease_of.epoch + 1, ..lease_of };
    refused(store.start(old, fetched[0].id, 8).await, FENCED, "start under another epoch");
}

async fn an_older_epoch_is_fenced<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let old = lease(&store, ONE).await;
    write(harness, &store, &[message(1, 1), message(2, 2)]).await;
    let messages = fetch(&store, &old, 9).await.messages;
    assert_ne!(messages[0].partition, messages[1].partition, "the case needs two partitions");
    harness.advance(LEASE).await;
    let new = lease(&store, TWO).await;
    // Of one call, what is owned is written and what is not is refused.
    let batch = vec![
        settled(&messages[0], &old, Verdict::Delivered),
        settled(&messages[1], &new, Verdict::Delivered),
    ];
    let refused = expect(store.settle(batch).await, "settle");
    assert_eq!(refused, [messages[0].partition]);
    assert_eq!(found(&store, &new).await, [1]);
}

async fn a_settlement_whose_answer_was_lost<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    write(harness, &store, &[message(1, 1), message(2, 2)]).await;
    let messages = fetch(&store, &leases, 9).await.messages;
    let batch = vec![
        settled(&messages[0], &leases, Verdict::Delivered),
        settled(&messages[1], &leases, dead(false)),
    ];
    settle(&store, batch.clone()).await;
    settle(&store, batch).await;
    assert_eq!(found(&store, &leases).await, [0; 0]);
    let letters = expect(store.dead_letters(0, 9).await, "dead_letters");
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].message.attempts, 1, "it died once");
    // A verdict that comes late does not bring it back.
    settle(&store, vec![settled(&messages[0], &leases, retry())]).await;
    harness.advance(HOLD).await;
    assert_eq!(found(&store, &leases).await, [0; 0]);
}

async fn a_failed_message_holds_its_key<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    write(harness, &store, &[message(1, 1), message(2, 1), message(3, 2)]).await;
    let messages = fetch(&store, &leases, 9).await.messages;
    settle(&store, vec![settled(&messages[0], &leases, retry())]).await;
    let fetched = fetch(&store, &leases, 9).await;
    assert_eq!(numbers(&fetched.messages), [3], "only its own key waits");
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

async fn a_dead_letter_lets_its_key_go_on<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    write(harness, &store, &[message(1, 1), message(2, 1)]).await;
    let messages = fetch(&store, &leases, 9).await.messages;
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

async fn a_dead_letter_that_holds_its_key<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    let messages = [message(1, 1), message(2, 1), message(3, 2), message(4, 3), message(5, 3)];
    write(harness, &store, &messages).await;
    let messages = fetch(&store, &leases, 9).await.messages;
    let batch = vec![
        settled(&messages[0], &leases, dead(true)),
        settled(&messages[3], &leases, dead(true)),
    ];
    settle(&store, batch).await;
    harness.advance(HOLD).await;
    let fetched = fetch(&store, &leases, 9).await;
    assert_eq!(numbers(&fetched.messages), [3]);
    assert_eq!(fetched.next_due, None, "only an operator lets these keys go on");
    assert!(
        expect(store.dead_letters(0, 9).await, "dead_letters").iter().all(|dead| dead.holds_key)
    );
    assert_eq!(expect(store.requeue(&[messages[0].id]).await, "requeue"), 1);
    assert_eq!(expect(store.discard(&[messages[3].id]).await, "discard"), 1);
    assert_eq!(found(&store, &leases).await, [1, 2, 3, 5]);
}

async fn dead_letters_come_in_pages_and_can_be_discarded<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    let written: Vec<_> = (1..=5).map(|number| message(number, number)).collect();
    write(harness, &store, &written).await;
    let messages = fetch(&store, &leases, 9).await.messages;
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
    assert_eq!(expect(store.requeue(&ids).await, "requeue"), 0, "gone for good");
}

async fn a_thousand_rows_behind_a_held_key_delay_nobody<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    let held: Vec<_> = (1..=1000).map(|number| message(number, 1)).collect();
    write(harness, &store, &held).await;
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

async fn the_backlog_is_counted<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
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

async fn only_what_was_delivered_long_ago_is_purged<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    let store = harness.fresh().await;
    let leases = lease(&store, ONE).await;
    let written: Vec<_> = (1..=5).map(|number| message(number, number)).collect();
    write(harness, &store, &written).await;
    let messages = fetch(&store, &leases, 9).await.messages;
    let deliver = |found: &Message| settled(found, &leases, Verdict::Delivered);
    settle(&store, messages[..2].iter().map(deliver).collect()).await;
    harness.advance(HOLD).await;
    settle(&store, vec![deliver(&messages[2]), settled(&messages[3], &leases, dead(false))]).await;
    let purge = async |limit| expect(store.purge(HOLD, limit).await, "purge");
    assert_eq!(purge(1).await, 1);
    assert_eq!(purge(9).await, 1);
    assert_eq!(purge(9).await, 0);
    harness.advance(HOLD).await;
    assert_eq!(purge(9).await, 1, "dead and pending ones are never purged");
    assert_eq!(found(&store, &leases).await, [5]);
}

async fn a_take_over_while_a_settlement_is_in_flight<S, Tx, H>(harness: &H)
where
    S: Store + Write<Tx>,
    H: Transactions<S, Tx>,
{
    // Either order is right, but the two must agree on it.
    for _ in 0..20 {
        let store = harness.fresh().await;
        let other = harness.reopen(&store).await;
        let leases = lease(&store, ONE).await;
        write(harness, &store, &[message(1, 1)]).await;
        let messages = fetch(&store, &leases, 9).await.messages;
        harness.advance(LEASE).await;
        let write = store.settle(vec![settled(&messages[0], &leases, Verdict::Delivered)]);
        let (refused, taken) = both(write, other.lease(TWO, LEASE, &[])).await;
        let refused = expect(refused, "settle");
        let taken = expect(taken, "lease").leases;
        let left = found(&other, &taken).await;
        match refused.is_empty() {
            true => assert_eq!(left, [0; 0], "written before the take-over"),
            false => assert_eq!(left, [1], "refused, so it is still to be done"),
        }
    }
}
