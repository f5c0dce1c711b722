//! Idempotency keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use buttress::idempotency::{
    ClaimId, Claimed, CompleteIn, Completion, Config, Fingerprint, IdempotencyLayer, InvalidKey,
    Key, KeyClaim, Store,
};
use buttress::{Error, ErrorKind, StoreErrorKind};
use tower::{Layer, ServiceExt, service_fn};

use crate::db::{Db, NANO, SECOND, on_each_database, rng};

const LEASE: Duration = Duration::from_secs(10);
const HOUR: Duration = Duration::from_secs(3600);

fn key(text: &str) -> Key {
    Key::scoped("orders", text).unwrap()
}

fn claim() -> ClaimId {
    ClaimId::random(&rng())
}

on_each_database! {
    a_key_goes_from_free_to_done_and_back
    leases_end_at_the_instant_and_results_too
    other_fingerprints_are_refused
    one_of_many_owns_a_key
    a_result_is_completed_in_the_users_transaction
    sweeping_takes_what_expired
    sweeping_evicts_the_oldest_results_beyond_the_capacity
    sweeping_evicts_from_the_largest_scope_first
    a_result_that_is_too_large_leaves_its_key_done
    a_damaged_key_stops_only_itself
}

async fn a_key_goes_from_free_to_done_and_back<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    let (key, mine, theirs) = (key("a"), claim(), claim());
    assert_eq!(store.claim(KeyClaim::new(&key, mine), LEASE).await.unwrap(), Claimed::Owned);
    db.time().advance(4 * SECOND);
    let left = Claimed::InFlight { lease_left: 6 * SECOND };
    assert_eq!(other.claim(KeyClaim::new(&key, theirs), LEASE).await.unwrap(), left);
    assert_eq!(
        store.claim(KeyClaim::new(&key, mine), LEASE).await.unwrap(),
        Claimed::Owned,
        "repeated"
    );
    let left = Claimed::InFlight { lease_left: LEASE };
    assert_eq!(
        other.claim(KeyClaim::new(&key, theirs), LEASE).await.unwrap(),
        left,
        "with a new lease"
    );
    for error in [
        other.renew_claim(KeyClaim::new(&key, theirs), LEASE).await,
        other.complete(KeyClaim::new(&key, theirs), b"x".to_vec(), HOUR).await,
    ] {
        assert!(error.unwrap_err().is_fenced());
    }
    other.release_claim(KeyClaim::new(&key, theirs)).await.unwrap();
    assert_eq!(store.outcome(KeyClaim::new(&key, mine)).await.unwrap(), None);
    store.complete(KeyClaim::new(&key, mine), b"result".to_vec(), HOUR).await.unwrap();
    store.complete(KeyClaim::new(&key, mine), b"result".to_vec(), HOUR).await.unwrap();
    let other_result = store.complete(KeyClaim::new(&key, mine), b"other".to_vec(), HOUR).await;
    assert_eq!(other_result.unwrap_err().kind(), StoreErrorKind::Conflict);
    let done = Claimed::Done(b"result".to_vec());
    assert_eq!(other.claim(KeyClaim::new(&key, theirs), LEASE).await.unwrap(), done);
    assert_eq!(store.claim(KeyClaim::new(&key, mine), LEASE).await.unwrap(), done);
    assert_eq!(store.outcome(KeyClaim::new(&key, mine)).await.unwrap(), Some(b"result".to_vec()));
    assert_eq!(store.outcome(KeyClaim::new(&key, theirs)).await.unwrap(), None);
    assert!(
        store.renew_claim(KeyClaim::new(&key, mine), LEASE).await.unwrap_err().is_fenced(),
        "completed"
    );
    store.release_claim(KeyClaim::new(&key, mine)).await.unwrap();
    assert_eq!(
        other.claim(KeyClaim::new(&key, theirs), LEASE).await.unwrap(),
        done,
        "not in flight"
    );

    let another = Key::new("b").unwrap();
    assert_eq!(store.claim(KeyClaim::new(&another, mine), LEASE).await.unwrap(), Claimed::Owned);
    store.release_claim(KeyClaim::new(&another, mine)).await.unwrap();
    store.release_claim(KeyClaim::new(&another, mine)).await.unwrap();
    assert!(
        store
            .complete(KeyClaim::new(&another, mine), Vec::new(), HOUR)
            .await
            .unwrap_err()
            .is_fenced()
    );
    assert_eq!(store.claim(KeyClaim::new(&another, theirs), LEASE).await.unwrap(), Claimed::Owned);
    store.complete(KeyClaim::new(&another, theirs), Vec::new(), HOUR).await.unwrap();
    assert_eq!(store.outcome(KeyClaim::new(&another, theirs)).await.unwrap(), Some(Vec::new()));
    let large = store
        .complete(KeyClaim::new(&another, theirs), vec![0; buttress_sqlx::LARGEST + 1], HOUR)
        .await;
    assert_eq!(large.unwrap_err().kind(), StoreErrorKind::Invalid);
}

async fn leases_end_at_the_instant_and_results_too<D: Db>(db: D) {
    let store = db.store();
    let (key, old, new) = (key("a"), claim(), claim());
    store.claim(KeyClaim::new(&key, old), LEASE).await.unwrap();
    db.time().advance(LEASE - NANO);
    let left = Claimed::InFlight { lease_left: NANO };
    assert_eq!(store.claim(KeyClaim::new(&key, new), LEASE).await.unwrap(), left);
    db.time().advance(NANO);
    // The claim has ended, and no other caller has taken the key.
    store.renew_claim(KeyClaim::new(&key, old), LEASE).await.unwrap();
    db.time().advance(LEASE);
    assert_eq!(store.claim(KeyClaim::new(&key, new), LEASE).await.unwrap(), Claimed::Owned);
    assert!(store.renew_claim(KeyClaim::new(&key, old), LEASE).await.unwrap_err().is_fenced());
    assert!(
        store
            .complete(KeyClaim::new(&key, old), b"old".to_vec(), HOUR)
            .await
            .unwrap_err()
            .is_fenced()
    );
    store.release_claim(KeyClaim::new(&key, old)).await.unwrap();
    db.time().advance(LEASE);
    store.complete(KeyClaim::new(&key, new), b"new".to_vec(), HOUR).await.unwrap();
    db.time().advance(HOUR - NANO);
    let done = Claimed::Done(b"new".to_vec());
    assert_eq!(store.claim(KeyClaim::new(&key, old), LEASE).await.unwrap(), done);
    db.time().advance(NANO);
    assert_eq!(store.outcome(KeyClaim::new(&key, new)).await.unwrap(), None);
    assert!(
        store
            .complete(KeyClaim::new(&key, new), b"new".to_vec(), HOUR)
            .await
            .unwrap_err()
            .is_fenced()
    );
    assert_eq!(store.claim(KeyClaim::new(&key, old), LEASE).await.unwrap(), Claimed::Owned);
    assert_eq!(
        store.outcome(KeyClaim::new(&key, old)).await.unwrap(),
        None,
        "the old result is gone"
    );
    store.complete(KeyClaim::new(&key, old), b"again".to_vec(), Duration::MAX).await.unwrap();
    db.time().advance(1000 * HOUR);
    assert_eq!(store.outcome(KeyClaim::new(&key, old)).await.unwrap(), Some(b"again".to_vec()));
}

async fn other_fingerprints_are_refused<D: Db>(db: D) {
    let store = db.store();
    let (key, mine, theirs) = (key("a"), claim(), claim());
    let (one, two) = (Some(Fingerprint::of(b"1")), Some(Fingerprint::of(b"2")));
    store.claim(KeyClaim::new(&key, mine).fingerprint(one), LEASE).await.unwrap();
    assert_eq!(
        store.claim(KeyClaim::new(&key, theirs).fingerprint(two), LEASE).await.unwrap(),
        Claimed::Mismatch
    );
    for fingerprint in [None, one] {
        let claimed =
            store.claim(KeyClaim::new(&key, theirs).fingerprint(fingerprint), LEASE).await.unwrap();
        assert!(matches!(claimed, Claimed::InFlight { .. }));
    }
    assert_eq!(store.claim(KeyClaim::new(&key, mine), LEASE).await.unwrap(), Claimed::Owned);
    assert_eq!(
        store.claim(KeyClaim::new(&key, theirs).fingerprint(two), LEASE).await.unwrap(),
        Claimed::Mismatch
    );
    store.complete(KeyClaim::new(&key, mine), Vec::new(), HOUR).await.unwrap();
    assert_eq!(
        store.claim(KeyClaim::new(&key, theirs).fingerprint(two), LEASE).await.unwrap(),
        Claimed::Mismatch
    );
    assert_eq!(
        store.claim(KeyClaim::new(&key, theirs), LEASE).await.unwrap(),
        Claimed::Done(Vec::new())
    );
    db.time().advance(HOUR);
    assert_eq!(
        store.claim(KeyClaim::new(&key, theirs).fingerprint(two), LEASE).await.unwrap(),
        Claimed::Owned,
        "expired"
    );
    assert_eq!(
        store.claim(KeyClaim::new(&key, mine).fingerprint(one), LEASE).await.unwrap(),
        Claimed::Mismatch
    );
}

async fn one_of_many_owns_a_key<D: Db>(db: D) {
    let stores = [db.store().clone(), db.another().await];
    for round in 0..5 {
        let key = key(&format!("round {round}"));
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..40 {
            let (store, key) = (stores[n % 2].clone(), key.clone());
            tasks.spawn(
                async move { store.claim(KeyClaim::new(&key, claim()), LEASE).await.unwrap() },
            );
        }
        let answers = tasks.join_all().await;
        assert_eq!(answers.iter().filter(|answer| **answer == Claimed::Owned).count(), 1);
        assert!(answers.iter().all(|a| matches!(a, Claimed::Owned | Claimed::InFlight { .. })));
    }
}

async fn a_result_is_completed_in_the_users_transaction<D: Db>(db: D) {
    let store = db.store();
    let (key, mine, theirs) = (key("a"), claim(), claim());
    let value = b"result".to_vec();
    store.claim(KeyClaim::new(&key, mine), LEASE).await.unwrap();
    let mut tx = db.begin().await;
    store
        .complete_in(&mut tx, Completion::new(KeyClaim::new(&key, mine), &value, HOUR))
        .await
        .unwrap();
    store
        .complete_in(&mut tx, Completion::new(KeyClaim::new(&key, mine), &value, HOUR))
        .await
        .unwrap();
    db.rollback(tx).await;
    assert_eq!(store.outcome(KeyClaim::new(&key, mine)).await.unwrap(), None);
    let mut tx = db.begin().await;
    let refused = store
        .complete_in(&mut tx, Completion::new(KeyClaim::new(&key, theirs), &value, HOUR))
        .await;
    assert!(refused.unwrap_err().is_fenced());
    db.rollback(tx).await;
    let mut tx = db.begin().await;
    store
        .complete_in(&mut tx, Completion::new(KeyClaim::new(&key, mine), &value, HOUR))
        .await
        .unwrap();
    db.commit(tx).await;
    assert_eq!(store.outcome(KeyClaim::new(&key, mine)).await.unwrap(), Some(value.clone()));
    // The key was taken over before, so nothing is stored.
    db.time().advance(HOUR);
    store.claim(KeyClaim::new(&key, theirs), LEASE).await.unwrap();
    let mut tx = db.begin().await;
    let refused =
        store.complete_in(&mut tx, Completion::new(KeyClaim::new(&key, mine), &value, HOUR)).await;
    assert!(refused.unwrap_err().is_fenced());
    db.rollback(tx).await;
}

async fn sweeping_takes_what_expired<D: Db>(db: D) {
    let store = db.store();
    for n in 0..10 {
        let claim = claim();
        store.claim(KeyClaim::new(&key(&n.to_string()), claim), LEASE).await.unwrap();
        if n >= 5 {
            store
                .complete(KeyClaim::new(&key(&n.to_string()), claim), Vec::new(), HOUR)
                .await
                .unwrap();
        }
    }
    assert_eq!(store.sweep_expired(100).await.unwrap(), 0);
    db.time().advance(LEASE);
    assert_eq!(store.sweep_expired(3).await.unwrap(), 3);
    assert_eq!(store.sweep_expired(100).await.unwrap(), 2);
    db.time().advance(HOUR);
    assert_eq!(store.sweep_expired(100).await.unwrap(), 5);
    assert_eq!(db.execute("DELETE FROM {s}buttress_idempotency").await, 0);
}

/// Caught: the many keys of one caller evicted the results of all other callers.
async fn sweeping_evicts_from_the_largest_scope_first<D: Db>(db: D) {
    let store = db.keeping(4).await;
    let mut results = Vec::new();
    // The results of ann, and one without a scope, are the oldest.
    for (scope, number) in [("ann", 1), ("", 2), ("mallory", 3), ("mallory", 4), ("mallory", 5)] {
        results.push((Key::scoped(scope, &format!("{number}")).unwrap(), claim()));
    }
    results.extend(
        (6..12).map(|number| (Key::scoped("mallory", &format!("{number}")).unwrap(), claim())),
    );
    for (key, mine) in &results {
        store.claim(KeyClaim::new(key, *mine), LEASE).await.unwrap();
        store.complete(KeyClaim::new(key, *mine), b"x".to_vec(), HOUR).await.unwrap();
        db.time().advance(SECOND);
    }
    let kept = async || {
        let mut kept = Vec::new();
        for (key, mine) in &results {
            let held = store.outcome(KeyClaim::new(key, *mine)).await.unwrap().is_some();
            kept.extend(held.then(|| key.key().to_owned()));
        }
        kept
    };
    assert_eq!(store.sweep_expired(2).await.unwrap(), 2, "at most the limit");
    assert_eq!(kept().await, ["1", "2", "5", "6", "7", "8", "9", "10", "11"]);
    assert_eq!(store.sweep_expired(500).await.unwrap(), 5);
    assert_eq!(kept().await, ["1", "2", "10", "11"], "the oldest results of the largest scope");
}

/// Through the layer: the store refuses the result, and the layer does not do the work again.
async fn a_result_that_is_too_large_leaves_its_key_done<D: Db>(db: D) {
    let store = db.store();
    let by_number: fn(&u8) -> Result<Key, InvalidKey> = |number| Key::new(&number.to_string());
    let layer = IdempotencyLayer::new(Config::new(), store.clone(), by_number).unwrap();
    let calls = Arc::new(AtomicU32::new(0));
    let counter = calls.clone();
    let service = layer.layer(service_fn(move |_: u8| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok::<_, Error>(vec![0_u8; buttress_sqlx::LARGEST + 1]))
    }));
    assert_eq!(service.clone().oneshot(7).await.unwrap().len(), buttress_sqlx::LARGEST + 1);
    db.time().advance(299 * SECOND);
    let refused = service.clone().oneshot(7).await.unwrap_err();
    assert_eq!((refused.kind(), refused.retry_after()), (ErrorKind::ResultNotKept, None));
    db.time().advance(SECOND);
    assert!(service.oneshot(7).await.is_ok(), "the lifetime is over");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
}

async fn sweeping_evicts_the_oldest_results_beyond_the_capacity<D: Db>(db: D) {
    let store = db.keeping(3).await;
    let held = key("in flight, and older than all");
    store.claim(KeyClaim::new(&held, claim()), HOUR).await.unwrap();
    let mut results = Vec::new();
    for n in 0..7 {
        let (key, mine) = (key(&n.to_string()), claim());
        store.claim(KeyClaim::new(&key, mine), LEASE).await.unwrap();
        store.complete(KeyClaim::new(&key, mine), vec![n], HOUR).await.unwrap();
        results.push((key, mine));
        db.time().advance(SECOND);
    }
    let kept = async |store: &D::Store| {
        let mut kept = Vec::new();
        for (n, (key, mine)) in results.iter().enumerate() {
            kept.extend(store.outcome(KeyClaim::new(key, *mine)).await.unwrap().map(|_| n));
        }
        kept
    };
    assert_eq!(
        db.store().sweep_expired(500).await.unwrap(),
        0,
        "without a capacity nothing is evicted"
    );
    assert_eq!(store.sweep_expired(1).await.unwrap(), 1, "at most the limit");
    assert_eq!(kept(&store).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(store.sweep_expired(500).await.unwrap(), 3);
    assert_eq!(kept(&store).await, [4, 5, 6]);
    assert_eq!(store.sweep_expired(500).await.unwrap(), 0);
    let left = Claimed::InFlight { lease_left: HOUR - 7 * SECOND };
    assert_eq!(store.claim(KeyClaim::new(&held, claim()), LEASE).await.unwrap(), left);
    // Expired results go first, and do not count.
    db.time().advance(HOUR - 2 * SECOND);
    assert_eq!(store.sweep_expired(2).await.unwrap(), 2, "the claim, and one of two results");
    assert_eq!(store.sweep_expired(2).await.unwrap(), 1);
    assert_eq!(kept(&store).await, [6]);
}

async fn a_damaged_key_stops_only_itself<D: Db>(db: D) {
    let store = db.store();
    store.claim(KeyClaim::new(&key("bad"), claim()), LEASE).await.unwrap();
    db.execute("UPDATE {s}buttress_idempotency SET status = 77").await;
    let (bad, good) = (key("bad"), key("good"));
    let (broken, fine) = tokio::join!(
        store.claim(KeyClaim::new(&bad, claim()), LEASE),
        store.claim(KeyClaim::new(&good, claim()), LEASE),
    );
    let error = broken.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("orders/bad"), "{error}");
    assert_eq!(fine.unwrap(), Claimed::Owned);
}
