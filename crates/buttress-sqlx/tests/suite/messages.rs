//! Behaviour of the outbox beyond the conformance suite.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress_durable::outbox::{
    Lease, Message, MessageId, NewMessage, RelayId, Renewal, Settled, Store, Verdict, Write,
};

use crate::db::{Db, NANO, SECOND, on_each_database, rng};

const LEASE: Duration = Duration::from_secs(30);

fn message(key: &str) -> NewMessage {
    NewMessage::new(MessageId::random(&rng()), key, b"payload".to_vec())
}

async fn lease<S: Store>(store: &S, relay: RelayId) -> Vec<Lease> {
    store.lease_partitions(Renewal::new(relay, LEASE, &[])).await.unwrap().leases
}

fn settled(message: &Message, leases: &[Lease], verdict: Verdict) -> Settled {
    let lease = leases.iter().find(|lease| lease.partition == message.partition);
    Settled::new(message, *lease.unwrap(), verdict)
}

fn retry(after: Duration) -> Verdict {
    Verdict::Retry { counts: true, after, error: "away\0".to_owned() }
}

fn ids(messages: &[Message]) -> Vec<MessageId> {
    messages.iter().map(|message| message.id).collect()
}

on_each_database! {
    a_message_is_written_once
    a_retry_whose_answer_was_lost_counts_once
    delayed_messages_come_in_their_order_once_due
    a_message_that_cannot_be_read_stops_its_key_only
    the_mark_grows_and_is_the_next_owners_suspicion
    three_relays_share_and_nothing_is_relayed_twice
    only_dead_letters_are_requeued_or_discarded
    starts_of_messages_that_are_not_pending
    nothing_is_fetched_for_nobody
}

async fn a_message_is_written_once<D: Db>(db: D) {
    let message = message("k");
    db.write(vec![message.clone()]).await;
    let mut tx = db.begin().await;
    let again = db.store().write(&mut tx, &message).await.unwrap_err();
    assert_eq!(again.kind(), StoreErrorKind::Conflict);
    assert!(again.to_string().contains(&message.id.to_string()), "{again}");
    db.rollback(tx).await;
    let mut tx = db.begin().await;
    let wrong = NewMessage::new(MessageId::new(1), "a\0b", "x");
    let error = db.store().write(&mut tx, &wrong).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Invalid);
    db.rollback(tx).await;
}

async fn a_retry_whose_answer_was_lost_counts_once<D: Db>(db: D) {
    let store = db.store();
    let relay = RelayId::random(&rng());
    db.write(vec![message("k"), message("k")]).await;
    let leases = lease(store, relay).await;
    let fetched = store.fetch(relay, &leases, 1).await.unwrap().messages;
    let verdict = vec![settled(&fetched[0], &leases, retry(5 * SECOND))];
    for _ in 0..2 {
        assert!(store.settle(verdict.clone()).await.unwrap().is_empty());
    }
    db.time().advance(5 * SECOND - NANO);
    assert!(store.settle(verdict.clone()).await.unwrap().is_empty());
    assert!(store.fetch(relay, &leases, 9).await.unwrap().messages.is_empty());
    db.time().advance(NANO);
    let again = store.fetch(relay, &leases, 9).await.unwrap().messages;
    assert_eq!((again.len(), again[0].attempts), (2, 1));
    // The next attempt fails: another verdict.
    assert!(store.settle(verdict).await.unwrap().is_empty());
    db.time().advance(5 * SECOND);
    let again = store.fetch(relay, &leases, 9).await.unwrap().messages;
    assert_eq!(again[0].attempts, 2);
    // After its delivery it does not hold its key any more.
    let verdict = vec![settled(&again[0], &leases, Verdict::Delivered)];
    assert!(store.settle(verdict).await.unwrap().is_empty());
    assert_eq!(db.execute("DELETE FROM {s}buttress_outbox_hold").await, 0);
    assert_eq!(store.backlog().await.unwrap().pending, 1);
}

async fn delayed_messages_come_in_their_order_once_due<D: Db>(db: D) {
    let store = db.store();
    let relay = RelayId::random(&rng());
    let leases = lease(store, relay).await;
    let written = [
        message("a").delay(9 * SECOND),
        message("a").delay(3 * SECOND),
        message("b"),
        message("a"),
    ];
    db.write(written.to_vec()).await;
    let all: Vec<MessageId> = written.iter().map(|message| message.id).collect();
    let fetched = store.fetch(relay, &leases, 9).await.unwrap();
    assert_eq!(ids(&fetched.messages), all[2..]);
    assert_eq!(fetched.next_due, Some(fetched.now + 3 * SECOND));
    assert_eq!(store.backlog().await.unwrap().pending, 4);
    assert_eq!(store.backlog().await.unwrap().oldest_age, Duration::ZERO);
    db.time().advance(3 * SECOND);
    let fetched = store.fetch(relay, &leases, 9).await.unwrap();
    assert_eq!(ids(&fetched.messages), all[1..]);
    assert_eq!(fetched.next_due, Some(fetched.now + 6 * SECOND));
    db.time().advance(6 * SECOND);
    let fetched = store.fetch(relay, &leases, 9).await.unwrap();
    assert_eq!((ids(&fetched.messages), fetched.next_due), (all, None));
    assert_eq!(fetched.messages[0].due_at, fetched.now);
    assert_eq!(store.backlog().await.unwrap().oldest_age, 9 * SECOND);
    // A delay without end.
    db.write(vec![message("c").delay(Duration::MAX)]).await;
    assert!(store.fetch(relay, &leases, 9).await.unwrap().next_due.is_some());
}

async fn a_message_that_cannot_be_read_stops_its_key_only<D: Db>(db: D) {
    let store = db.store();
    let relay = RelayId::random(&rng());
    let leases = lease(store, relay).await;
    let written = [message("a"), message("a").header("x", "y"), message("a"), message("b")];
    db.write(written.to_vec()).await;
    db.execute("UPDATE {s}buttress_outbox SET headers = payload WHERE headers IS NOT NULL").await;
    let fetched = store.fetch(relay, &leases, 9).await.unwrap().messages;
    assert_eq!(ids(&fetched), [written[0].id, written[3].id], "no message passes it");
    let delivered = fetched.iter().map(|found| settled(found, &leases, Verdict::Delivered));
    assert!(store.settle(delivered.collect()).await.unwrap().is_empty());
    assert!(store.fetch(relay, &leases, 9).await.unwrap().messages.is_empty());
    let letters = store.dead_letters(0, 9).await.unwrap();
    assert_eq!((letters.len(), letters[0].message.id), (1, written[1].id));
    assert!(letters[0].error.contains("corrupt"), "{}", letters[0].error);
    assert!(letters[0].error.contains(&written[1].id.to_string()), "{}", letters[0].error);
    assert!(letters[0].holds_key);
    assert_eq!(store.discard(&[written[1].id]).await.unwrap(), 1);
    let fetched = store.fetch(relay, &leases, 9).await.unwrap().messages;
    assert_eq!(ids(&fetched), [written[2].id]);
}

async fn the_mark_grows_and_is_the_next_owners_suspicion<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    let (one, two) = (RelayId::random(&rng()), RelayId::random(&rng()));
    db.write((0..6).map(|_| message("k")).collect()).await;
    let leases = lease(store, one).await;
    let first = store.fetch(one, &leases, 4).await.unwrap().messages;
    // A fetch of fewer messages does not lower the mark.
    store.fetch(one, &leases, 1).await.unwrap();
    db.time().advance(LEASE - NANO);
    assert!(lease(&other, two).await.is_empty());
    db.time().advance(NANO);
    let taken = lease(&other, two).await;
    assert_eq!(taken.len(), 16);
    let suspect: Vec<_> = taken.iter().filter(|lease| lease.suspect_to > 0).collect();
    assert_eq!((suspect.len(), suspect[0].suspect_to), (1, first[3].sequence));
    assert!(taken.iter().all(|lease| lease.epoch == 2));
    // The old owner continues after its pause.
    let late: Vec<_> =
        first.iter().map(|found| settled(found, &leases, Verdict::Delivered)).collect();
    assert_eq!(store.settle(late).await.unwrap(), [first[0].partition]);
    assert!(store.fetch(one, &leases, 9).await.unwrap().messages.is_empty());
    let old = leases.iter().find(|lease| lease.partition == first[0].partition).unwrap();
    assert!(store.record_start(*old, first[0].id, 1).await.unwrap_err().is_fenced());
    assert!(store.clear_suspects(*old).await.unwrap_err().is_fenced());
    assert!(lease(store, one).await.is_empty());
    // The suspects survive a release by an owner that has not published them.
    other.release_partitions(two).await.unwrap();
    let again = lease(store, one).await;
    let suspect: Vec<_> = again.iter().filter(|lease| lease.suspect_to > 0).collect();
    assert_eq!((suspect.len(), suspect[0].epoch), (1, 3));
    store.clear_suspects(*suspect[0]).await.unwrap();
    assert!(lease(store, one).await.iter().all(|lease| lease.suspect_to == 0));
}

/// Relays come and leave while messages are relayed. Only one settlement of a message is accepted.
async fn three_relays_share_and_nothing_is_relayed_twice<D: Db>(db: D) {
    let store = db.store();
    let keys: Vec<String> = (0..40).map(|n| format!("key {n}")).collect();
    for _ in 0..5 {
        db.write(keys.iter().map(|key| message(key)).collect()).await;
    }
    let relays: Vec<RelayId> = (1..=3).map(RelayId::new).collect();
    for _ in 0..2 {
        for relay in &relays {
            lease(store, *relay).await;
        }
    }
    let mut delivered = 0;
    let mut owned = Vec::new();
    for relay in &relays {
        let leases = lease(store, *relay).await;
        assert!((4..=6).contains(&leases.len()), "{}", leases.len());
        owned.extend(leases.iter().map(|lease| lease.partition));
        let mut seen: std::collections::BTreeMap<String, u64> = Default::default();
        loop {
            let found = store.fetch(*relay, &leases, 7).await.unwrap().messages;
            if found.is_empty() {
                break;
            }
            for message in &found {
                let last = seen.insert(message.key.clone(), message.sequence);
                assert!(last.is_none_or(|last| last < message.sequence), "in order of each key");
            }
            delivered += found.len();
            let verdicts = found.iter().map(|found| settled(found, &leases, Verdict::Delivered));
            assert!(store.settle(verdicts.collect()).await.unwrap().is_empty());
        }
    }
    owned.sort_unstable();
    assert_eq!(owned, (0..16).collect::<Vec<u16>>());
    assert_eq!(delivered, 200);
}

async fn only_dead_letters_are_requeued_or_discarded<D: Db>(db: D) {
    let store = db.store();
    let relay = RelayId::random(&rng());
    let leases = lease(store, relay).await;
    db.write(vec![message("a"), message("b")]).await;
    let found = store.fetch(relay, &leases, 9).await.unwrap().messages;
    let all = ids(&found);
    assert_eq!(store.requeue(&all).await.unwrap(), 0);
    assert_eq!(store.discard(&all).await.unwrap(), 0);
    assert_eq!(store.requeue(&[]).await.unwrap(), 0);
    assert!(store.settle(Vec::new()).await.unwrap().is_empty());
    let dead = |hold_key| Verdict::Dead { error: "x".repeat(9000), hold_key };
    let verdicts = vec![
        settled(&found[0], &leases, dead(true)),
        // Of two verdicts the first counts.
        settled(&found[0], &leases, Verdict::Delivered),
        settled(&found[1], &leases, dead(false)),
    ];
    assert!(store.settle(verdicts).await.unwrap().is_empty());
    let letters = store.dead_letters(0, 9).await.unwrap();
    assert_eq!(letters.iter().map(|l| l.holds_key).collect::<Vec<_>>(), [true, false]);
    assert_eq!(letters[0].error.len(), 2000, "long enough for people");
    assert_eq!(letters[0].died_at, db.time().clock().unix());
    assert_eq!(store.requeue(&all).await.unwrap(), 2);
    let again = store.fetch(relay, &leases, 9).await.unwrap().messages;
    assert_eq!(ids(&again), all);
}

async fn starts_of_messages_that_are_not_pending<D: Db>(db: D) {
    let store = db.store();
    let relay = RelayId::random(&rng());
    let leases = lease(store, relay).await;
    db.write(vec![message("a")]).await;
    let found = store.fetch(relay, &leases, 9).await.unwrap().messages;
    let own = settled(&found[0], &leases, Verdict::Delivered);
    assert_eq!(
        store.record_start(own.lease, found[0].id, 0).await.unwrap(),
        1,
        "claim 0 is a claim"
    );
    assert!(store.settle(vec![own.clone()]).await.unwrap().is_empty());
    for id in [found[0].id, MessageId::new(3)] {
        let error = store.record_start(own.lease, id, 2).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Conflict);
    }
}

async fn nothing_is_fetched_for_nobody<D: Db>(db: D) {
    let store = db.store();
    let relay = RelayId::random(&rng());
    db.write(vec![message("a")]).await;
    let invented: Vec<Lease> = (0..16).map(|partition| Lease::new(partition, 0)).collect();
    for leases in [&[][..], &invented[..]] {
        let fetched = store.fetch(relay, leases, 9).await.unwrap();
        assert!(fetched.messages.is_empty());
        assert_eq!(fetched.now, db.time().clock().unix());
    }
    let leases = lease(store, relay).await;
    assert!(store.fetch(relay, &leases, 0).await.unwrap().messages.is_empty());
    assert_eq!(store.fetch(relay, &leases[..], 9).await.unwrap().messages.len(), 1);
    // After a release the earlier lease is invalid, also without a new owner.
    store.release_partitions(relay).await.unwrap();
    assert!(store.fetch(relay, &leases, 9).await.unwrap().messages.is_empty());
}
