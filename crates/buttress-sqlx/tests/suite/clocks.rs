//! Clocks that are set back, and forward. A grant ends at most its length after a store reads it,
//! and the fence keeps an owner out whose lease ended early.

use std::time::Duration;

use buttress::idempotency;
use buttress::idempotency::{ClaimId, Claimed, Key, KeyClaim, Store as _};
use buttress_durable::outbox::{
    Fetched, Lease, Message, MessageId, NewMessage, RelayId, Renewal, Settled, Store as _, Verdict,
};
use buttress_durable::saga::{Store as _, TakeOver, WorkerId};
use buttress_durable::{outbox, saga};

use crate::db::{Db, HOUR, NANO, SECOND, on_each_database, rng};
use crate::sagas::{append, new_saga, take};

const LEASE: Duration = Duration::from_secs(30);

on_each_database! {
    partitions_of_a_relay_that_is_gone_are_free_after_one_lease
    a_live_relay_that_renews_loses_nothing
    each_lease_is_shortened_to_its_own_length
    claims_are_free_after_one_lease
    a_live_claim_that_renews_loses_nothing
    results_live_no_longer_than_their_lifetime
    sagas_of_a_worker_that_is_gone_are_free_after_one_lease
    a_live_worker_that_renews_loses_nothing
    a_retry_waits_no_longer_than_its_backoff
    a_relay_that_never_rests_lets_held_keys_go_on_too
    a_delayed_message_waits_no_longer_than_its_delay
    a_saga_waits_no_longer_than_its_length
    what_an_operator_decides_about_is_held_without_end
    a_clock_that_jumps_ahead_fences_the_old_owners
}

async fn lease<S: outbox::Store>(store: &S, relay: RelayId, lease: Duration) -> Vec<Lease> {
    store.lease_partitions(Renewal::new(relay, lease, &[])).await.unwrap().leases
}

fn message(key: &str) -> NewMessage {
    NewMessage::new(MessageId::random(&rng()), key, b"payload".to_vec())
}

fn settled(message: &Message, leases: &[Lease], verdict: Verdict) -> Vec<Settled> {
    let lease = leases.iter().find(|lease| lease.partition == message.partition);
    vec![Settled::new(message, *lease.unwrap(), verdict)]
}

async fn partitions_of_a_relay_that_is_gone_are_free_after_one_lease<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    let (gone, taker) = (RelayId::random(&rng()), RelayId::random(&rng()));
    assert_eq!(lease(store, gone, LEASE).await.len(), 16);
    db.time().set_skew(-HOUR);
    assert!(lease(&other, taker, LEASE).await.is_empty());
    db.time().advance(LEASE - NANO);
    assert!(lease(&other, taker, LEASE).await.is_empty());
    db.time().advance(NANO);
    let taken = lease(&other, taker, LEASE).await;
    assert_eq!(taken.len(), 16, "a relay that crashed has no share either");
    assert!(taken.iter().all(|lease| lease.epoch == 2));
}

async fn a_live_relay_that_renews_loses_nothing<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    let (one, two) = (RelayId::random(&rng()), RelayId::random(&rng()));
    lease(store, one, LEASE).await;
    lease(&other, two, LEASE).await;
    // Half of the partitions change owners.
    lease(store, one, LEASE).await;
    let theirs = lease(&other, two, LEASE).await;
    let mine = lease(store, one, LEASE).await;
    assert_eq!((mine.len(), theirs.len()), (8, 8));
    for skew in [-HOUR, -2 * HOUR, -3 * HOUR] {
        db.time().set_skew(skew);
        for _ in 0..6 {
            assert_eq!(lease(&other, two, LEASE).await, theirs);
            db.time().advance(LEASE / 3);
            assert_eq!(lease(store, one, LEASE).await, mine);
        }
    }
}

async fn each_lease_is_shortened_to_its_own_length<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    let (long, short) = (RelayId::random(&rng()), RelayId::random(&rng()));
    lease(store, long, 2 * LEASE).await;
    db.time().set_skew(-HOUR);
    // For any reader, with any lease.
    for _ in 0..3 {
        assert!(lease(&other, short, SECOND).await.is_empty());
    }
    db.time().advance(2 * LEASE - NANO);
    assert!(lease(&other, short, SECOND).await.is_empty());
    db.time().advance(NANO);
    assert_eq!(lease(&other, short, SECOND).await.len(), 16);
}

/// Claims a key for [`LEASE`].
async fn claimed<D: Db>(db: &D, key: &Key, id: u128) -> Claimed<Vec<u8>> {
    let claim = KeyClaim::new(key, ClaimId::new(id));
    idempotency::Store::claim(db.store(), claim, LEASE).await.unwrap()
}

async fn claims_are_free_after_one_lease<D: Db>(db: D) {
    let (key, gone, taker) = (Key::new("k").unwrap(), 1, 2);
    let claim = async |id| claimed(&db, &key, id).await;
    assert_eq!(claim(gone).await, Claimed::Owned);
    db.time().set_skew(-HOUR);
    assert_eq!(claim(taker).await, Claimed::InFlight { lease_left: LEASE });
    db.time().advance(LEASE - NANO);
    assert_eq!(claim(taker).await, Claimed::InFlight { lease_left: NANO });
    db.time().advance(NANO);
    assert_eq!(claim(taker).await, Claimed::Owned);
    let late = db.store().renew_claim_of(&key, ClaimId::new(gone)).await;
    assert!(late.unwrap_err().is_fenced());
}

async fn a_live_claim_that_renews_loses_nothing<D: Db>(db: D) {
    let store = db.store();
    let (key, live) = (Key::new("k").unwrap(), ClaimId::new(1));
    assert_eq!(claimed(&db, &key, 1).await, Claimed::Owned);
    for skew in [-HOUR, -2 * HOUR] {
        db.time().set_skew(skew);
        for _ in 0..6 {
            assert!(matches!(claimed(&db, &key, 2).await, Claimed::InFlight { .. }));
            db.time().advance(LEASE / 2);
            store.renew_claim_of(&key, live).await.unwrap();
        }
    }
    let done = store.complete(KeyClaim::new(&key, live), b"done".to_vec(), LEASE).await;
    done.unwrap();
    assert_eq!(claimed(&db, &key, 2).await, Claimed::Done(b"done".to_vec()));
}

async fn results_live_no_longer_than_their_lifetime<D: Db>(db: D) {
    let key = Key::new("k").unwrap();
    assert_eq!(claimed(&db, &key, 1).await, Claimed::Owned);
    let mine = KeyClaim::new(&key, ClaimId::new(1));
    db.store().complete(mine, b"done".to_vec(), 2 * LEASE).await.unwrap();
    db.time().set_skew(-HOUR);
    let done = Claimed::Done(b"done".to_vec());
    assert_eq!(claimed(&db, &key, 2).await, done);
    db.time().advance(2 * LEASE - NANO);
    assert_eq!(claimed(&db, &key, 2).await, done);
    db.time().advance(NANO);
    assert_eq!(claimed(&db, &key, 2).await, Claimed::Owned);
}

async fn sagas_of_a_worker_that_is_gone_are_free_after_one_lease<D: Db>(db: D) {
    let store = db.store();
    let (gone, taker) = (WorkerId::random(&rng()), WorkerId::random(&rng()));
    saga::Store::renew_worker(store, gone, LEASE).await.unwrap();
    let (one, two) = (new_saga(gone), new_saga(gone));
    store.create(one.clone()).await.unwrap();
    store.create(two.clone()).await.unwrap();
    db.time().set_skew(-HOUR);
    assert_eq!(store.take_saga(taker, two.id).await.unwrap(), None);
    db.time().advance(LEASE - NANO);
    assert!(take(store, taker, 1).await.sagas.is_empty());
    assert_eq!(store.take_saga(taker, two.id).await.unwrap(), None);
    db.time().advance(NANO);
    assert_eq!(take(store, taker, 1).await.sagas[0].id, one.id);
    assert_eq!(store.take_saga(taker, two.id).await.unwrap().unwrap().epoch, 2);
    assert!(store.append(append(two.id, 1, 1)).await.unwrap_err().is_fenced());
}

async fn a_live_worker_that_renews_loses_nothing<D: Db>(db: D) {
    let store = db.store();
    let (live, taker) = (WorkerId::random(&rng()), WorkerId::random(&rng()));
    saga::Store::renew_worker(store, live, LEASE).await.unwrap();
    let saga = new_saga(live);
    store.create(saga.clone()).await.unwrap();
    for skew in [-HOUR, -2 * HOUR] {
        db.time().set_skew(skew);
        for _ in 0..6 {
            assert!(take(store, taker, 9).await.sagas.is_empty());
            db.time().advance(LEASE / 2);
            saga::Store::renew_worker(store, live, LEASE).await.unwrap();
        }
    }
    store.append(append(saga.id, 1, 1)).await.unwrap();
}

fn retry(after: Duration) -> Verdict {
    Verdict::Retry { counts: true, after, error: "away".to_owned() }
}

/// Writes messages of these keys. Returns a relay that owns all partitions, and what it fetched.
async fn fetched<D: Db>(db: &D, keys: &[&str]) -> (RelayId, Vec<Lease>, Vec<Message>) {
    db.write(keys.iter().map(|key| message(key)).collect()).await;
    let relay = RelayId::random(&rng());
    let leases = lease(db.store(), relay, LEASE).await;
    let found = db.store().fetch(relay, &leases, 9).await.unwrap().messages;
    (relay, leases, found)
}

/// Sets the clock back, and checks that no message is due until `wait` has passed since. Returns the
/// fetch of that moment.
async fn due_after<D: Db>(db: &D, relay: RelayId, leases: &[Lease], wait: Duration) -> Fetched {
    db.time().set_skew(-HOUR);
    let early = db.store().fetch(relay, leases, 9).await.unwrap();
    assert!(early.messages.is_empty());
    assert_eq!(early.next_due, Some(early.now + wait));
    db.time().advance(wait - NANO);
    assert!(db.store().fetch(relay, leases, 9).await.unwrap().messages.is_empty());
    db.time().advance(NANO);
    db.store().fetch(relay, leases, 9).await.unwrap()
}

async fn a_retry_waits_no_longer_than_its_backoff<D: Db>(db: D) {
    let store = db.store();
    let (relay, leases, found) = fetched(&db, &["a", "b"]).await;
    for (message, after) in found.iter().zip([5 * SECOND, 600 * SECOND]) {
        let verdict = settled(message, &leases, retry(after));
        assert!(store.settle(verdict).await.unwrap().is_empty());
    }
    let fetched = due_after(&db, relay, &leases, 5 * SECOND).await;
    assert_eq!(fetched.messages[0].id, found[0].id);
    assert_eq!((fetched.messages.len(), fetched.messages[0].attempts), (1, 1));
    assert_eq!(fetched.next_due, Some(fetched.now + 595 * SECOND));
}

async fn a_relay_that_never_rests_lets_held_keys_go_on_too<D: Db>(db: D) {
    let store = db.store();
    let (relay, leases, found) = fetched(&db, &["a", "b"]).await;
    let verdict = settled(&found[0], &leases, retry(5 * SECOND));
    assert!(store.settle(verdict).await.unwrap().is_empty());
    db.time().set_skew(-HOUR);
    // Every call takes as much as its limit.
    let ids = async |limit| {
        let fetched = store.fetch(relay, &leases, limit).await.unwrap().messages;
        fetched.into_iter().map(|message| message.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(1).await, [found[1].id]);
    lease(store, relay, LEASE).await;
    db.time().advance(5 * SECOND);
    assert_eq!(ids(1).await, [found[0].id]);
}

async fn a_delayed_message_waits_no_longer_than_its_delay<D: Db>(db: D) {
    let store = db.store();
    let relay = RelayId::random(&rng());
    let leases = lease(store, relay, LEASE).await;
    let written = [message("a").delay(3 * SECOND), message("b").delay(Duration::MAX)];
    db.write(written.to_vec()).await;
    let fetched = due_after(&db, relay, &leases, 3 * SECOND).await;
    assert_eq!((fetched.messages.len(), fetched.messages[0].id), (1, written[0].id));
    assert_eq!(fetched.messages[0].due_at, fetched.now);
}

async fn a_saga_waits_no_longer_than_its_length<D: Db>(db: D) {
    let (store, worker) = (db.store(), WorkerId::random(&rng()));
    saga::Store::renew_worker(store, worker, LEASE).await.unwrap();
    let (one, two) = (new_saga(worker), new_saga(worker));
    for (saga, length) in [(&one, 5 * SECOND), (&two, 600 * SECOND)] {
        store.create(saga.clone()).await.unwrap();
        store.append(append(saga.id, 1, 1).waiting(length)).await.unwrap();
    }
    let due = async || {
        let taking = TakeOver::new(worker, ("order", 3), 9);
        let taken = store.take_due(taking).await.unwrap().sagas;
        taken.into_iter().map(|record| record.id).collect::<Vec<_>>()
    };
    db.time().set_skew(-HOUR);
    assert_eq!(due().await, []);
    db.time().advance(5 * SECOND - NANO);
    assert!(!store.has_due("order", 3).await.unwrap());
    db.time().advance(NANO);
    assert!(store.has_due("order", 3).await.unwrap());
    assert_eq!(due().await, [one.id]);
    // Set back once more: a look finds the wait without a take before.
    db.time().set_skew(-2 * HOUR);
    assert!(store.has_due("order", 3).await.unwrap(), "the wait has to be shortened");
    assert_eq!(due().await, []);
    assert!(!store.has_due("order", 3).await.unwrap());
    db.time().advance(600 * SECOND - NANO);
    assert_eq!(due().await, []);
    db.time().advance(NANO);
    assert_eq!(due().await, [two.id]);
}

async fn what_an_operator_decides_about_is_held_without_end<D: Db>(db: D) {
    let store = db.store();
    let (relay, leases, found) = fetched(&db, &["a", "a"]).await;
    let dead = Verdict::Dead { error: "poison".to_owned(), hold_key: true };
    assert!(store.settle(settled(&found[0], &leases, dead)).await.unwrap().is_empty());
    db.time().set_skew(-HOUR);
    for _ in 0..3 {
        lease(store, relay, LEASE).await;
        assert!(store.fetch(relay, &leases, 9).await.unwrap().messages.is_empty());
        db.time().advance(100 * LEASE);
    }
    assert_eq!(store.backlog().await.unwrap().held_keys, 1);
}

async fn a_clock_that_jumps_ahead_fences_the_old_owners<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    db.write(vec![message("a")]).await;
    let (relay, next) = (RelayId::random(&rng()), RelayId::random(&rng()));
    let leases = lease(store, relay, LEASE).await;
    let found = store.fetch(relay, &leases, 9).await.unwrap().messages;
    let (key, claim, later) = (Key::new("k").unwrap(), ClaimId::new(1), ClaimId::new(2));
    idempotency::Store::claim(store, KeyClaim::new(&key, claim), LEASE).await.unwrap();
    let (worker, taker) = (WorkerId::random(&rng()), WorkerId::random(&rng()));
    saga::Store::renew_worker(store, worker, LEASE).await.unwrap();
    let saga = new_saga(worker);
    store.create(saga.clone()).await.unwrap();

    db.time().set_skew(HOUR);
    assert_eq!(lease(&other, next, LEASE).await.len(), 16);
    let claimed =
        idempotency::Store::claim(&other, KeyClaim::new(&key, later), LEASE).await.unwrap();
    assert_eq!(claimed, Claimed::Owned);
    assert_eq!(take(&other, taker, 9).await.sagas.len(), 1);

    let late = settled(&found[0], &leases, Verdict::Delivered);
    assert_eq!(store.settle(late).await.unwrap(), [found[0].partition]);
    assert!(store.renew_claim_of(&key, claim).await.unwrap_err().is_fenced());
    saga::Store::renew_worker(store, worker, LEASE).await.unwrap();
    assert!(store.append(append(saga.id, 1, 1)).await.unwrap_err().is_fenced());
}

/// The renewal of a claim, with the lease of these tests.
trait RenewClaim {
    fn renew_claim_of(
        &self,
        key: &Key,
        claim: ClaimId,
    ) -> impl Future<Output = Result<(), buttress::StoreError>> + Send;
}

impl<S: idempotency::Store<Vec<u8>>> RenewClaim for S {
    async fn renew_claim_of(&self, key: &Key, claim: ClaimId) -> Result<(), buttress::StoreError> {
        idempotency::Store::renew_claim(self, KeyClaim::new(key, claim), LEASE).await
    }
}
