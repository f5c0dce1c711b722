//! Cases for stores of claims and results.

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress::idempotency::{
    ClaimId, Claimed, CompleteIn, Completion, Fingerprint, Key, KeyClaim, Store,
};

use super::{GRAIN, Harness, Transactions, both, cases, expect, refused};

const LEASE: Duration = Duration::from_secs(10);
const LIFE: Duration = Duration::from_secs(300);
const ONE: ClaimId = ClaimId::new(1);
const TWO: ClaimId = ClaimId::new(2);
const FENCED: StoreErrorKind = StoreErrorKind::Fenced;

/// Runs every case of [`Store`].
pub async fn all<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    cases!(harness:
        the_first_claim_owns_the_key,
        a_claim_whose_answer_was_lost,
        a_result_is_answered_until_it_expires,
        another_fingerprint_is_a_mismatch,
        a_lease_ends_at_its_instant,
        whoever_was_overtaken_can_do_nothing,
        a_released_key_is_free,
        a_completion_whose_answer_was_lost,
        what_a_claim_came_to,
        only_what_has_expired_is_swept,
        of_many_claims_at_once_one_owns,
        scopes_are_kept_apart,
        work_is_done_though_its_result_is_not_kept,
        an_operation_that_is_never_polled_has_no_effect,
    );
}

/// Runs every case of [`CompleteIn`].
pub async fn transactional<S, Tx, H>(harness: &H)
where
    S: Store<Vec<u8>> + CompleteIn<Tx, Vec<u8>>,
    H: Transactions<S, Tx>,
{
    cases!(harness:
        a_result_is_there_when_its_transaction_is,
        whoever_was_overtaken_cannot_complete_in_a_transaction,
        a_completion_that_is_never_polled_is_no_part_of_its_transaction,
    );
}

/// A store that completes claims in a caller's transaction.
trait Completes<Tx>: Store<Vec<u8>> + CompleteIn<Tx, Vec<u8>> {}

impl<S: Store<Vec<u8>> + CompleteIn<Tx, Vec<u8>>, Tx> Completes<Tx> for S {}

fn key(text: &str) -> Key {
    match Key::scoped("tests", text) {
        Ok(key) => key,
        Err(error) => panic!("{error}"),
    }
}

async fn claim<S: Store<Vec<u8>>>(store: &S, claim: ClaimId) -> Claimed<Vec<u8>> {
    expect(store.claim(KeyClaim::new(&key("k"), claim), LEASE).await, "claim")
}

async fn done<S: Store<Vec<u8>>>(harness: &impl Harness<S>) -> S {
    let store = harness.fresh().await;
    assert_eq!(claim(&store, ONE).await, Claimed::Owned);
    expect(
        store.complete(KeyClaim::new(&key("k"), ONE), b"answer".to_vec(), LIFE).await,
        "complete",
    );
    store
}

async fn the_first_claim_owns_the_key<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    assert_eq!(claim(&store, ONE).await, Claimed::Owned);
    harness.advance(Duration::from_secs(4)).await;
    let left = Claimed::InFlight { lease_left: Duration::from_secs(6) };
    assert_eq!(claim(&harness.reopen(&store).await, TWO).await, left);
    let other = store.claim(KeyClaim::new(&key("other"), TWO), LEASE).await;
    assert_eq!(expect(other, "another key"), Claimed::Owned);
}

async fn a_claim_whose_answer_was_lost<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    assert_eq!(claim(&store, ONE).await, Claimed::Owned);
    harness.advance(LEASE / 2).await;
    assert_eq!(claim(&store, ONE).await, Claimed::Owned, "with a new lease");
    harness.advance(LEASE / 2).await;
    let left = Claimed::InFlight { lease_left: LEASE / 2 };
    assert_eq!(claim(&store, TWO).await, left);
}

async fn a_result_is_answered_until_it_expires<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = done(harness).await;
    let answer = Claimed::Done(b"answer".to_vec());
    harness.advance(LIFE - GRAIN).await;
    assert_eq!(claim(&harness.reopen(&store).await, TWO).await, answer);
    harness.advance(GRAIN).await;
    assert_eq!(claim(&store, TWO).await, Claimed::Owned, "expired, although not swept");
}

async fn another_fingerprint_is_a_mismatch<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let (same, other) = (Fingerprint::new(u128::MAX), Fingerprint::new(u128::MAX - 1));
    let ask = async |claim, fingerprint| {
        expect(
            store.claim(KeyClaim::new(&key("k"), claim).fingerprint(fingerprint), LEASE).await,
            "claim",
        )
    };
    assert_eq!(ask(ONE, Some(same)).await, Claimed::Owned);
    assert_eq!(ask(TWO, Some(other)).await, Claimed::Mismatch, "in flight");
    let in_flight = Claimed::InFlight { lease_left: LEASE };
    assert_eq!(ask(TWO, Some(same)).await, in_flight);
    assert_eq!(ask(TWO, None).await, in_flight, "a missing fingerprint equals any");
    expect(
        store.complete(KeyClaim::new(&key("k"), ONE), b"answer".to_vec(), LIFE).await,
        "complete",
    );
    assert_eq!(ask(TWO, Some(other)).await, Claimed::Mismatch, "done");
    assert_eq!(ask(TWO, Some(same)).await, Claimed::Done(b"answer".to_vec()));
    harness.advance(LIFE).await;
    assert_eq!(ask(TWO, Some(other)).await, Claimed::Owned, "expired");
}

async fn a_lease_ends_at_its_instant<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    assert_eq!(claim(&store, ONE).await, Claimed::Owned);
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(claim(&store, TWO).await, Claimed::InFlight { lease_left: GRAIN });
    expect(store.renew_claim(KeyClaim::new(&key("k"), ONE), LEASE).await, "renew");
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(claim(&store, TWO).await, Claimed::InFlight { lease_left: GRAIN });
    harness.advance(GRAIN).await;
    // The lease has expired, but no other worker has claimed the key: the owner can still renew it.
    expect(store.renew_claim(KeyClaim::new(&key("k"), ONE), LEASE).await, "renew after the end");
    harness.advance(LEASE).await;
    assert_eq!(claim(&store, TWO).await, Claimed::Owned);
}

async fn whoever_was_overtaken_can_do_nothing<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    assert_eq!(claim(&store, ONE).await, Claimed::Owned);
    harness.advance(LEASE).await;
    assert_eq!(claim(&store, TWO).await, Claimed::Owned);
    let key = key("k");
    refused(store.renew_claim(KeyClaim::new(&key, ONE), LEASE).await, FENCED, "renew");
    refused(
        store.complete(KeyClaim::new(&key, ONE), b"late".to_vec(), LIFE).await,
        FENCED,
        "complete",
    );
    expect(store.release_claim(KeyClaim::new(&key, ONE)).await, "a release that does nothing");
    assert_eq!(claim(&store, ONE).await, Claimed::InFlight { lease_left: LEASE });
    expect(store.complete(KeyClaim::new(&key, TWO), b"answer".to_vec(), LIFE).await, "complete");
    refused(
        store.complete(KeyClaim::new(&key, ONE), b"late".to_vec(), LIFE).await,
        FENCED,
        "complete after the release",
    );
    assert_eq!(claim(&store, ONE).await, Claimed::Done(b"answer".to_vec()));
}

async fn a_released_key_is_free<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    assert_eq!(claim(&store, ONE).await, Claimed::Owned);
    expect(store.release_claim(KeyClaim::new(&key("k"), ONE)).await, "release");
    expect(store.release_claim(KeyClaim::new(&key("k"), ONE)).await, "release again");
    refused(store.renew_claim(KeyClaim::new(&key("k"), ONE), LEASE).await, FENCED, "renew");
    assert_eq!(claim(&store, TWO).await, Claimed::Owned);
    // A completed claim is not released.
    expect(
        store.complete(KeyClaim::new(&key("k"), TWO), b"answer".to_vec(), LIFE).await,
        "complete",
    );
    expect(store.release_claim(KeyClaim::new(&key("k"), TWO)).await, "release");
    assert_eq!(claim(&store, ONE).await, Claimed::Done(b"answer".to_vec()));
}

async fn a_completion_whose_answer_was_lost<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = done(harness).await;
    expect(
        store.complete(KeyClaim::new(&key("k"), ONE), b"answer".to_vec(), LIFE).await,
        "complete again",
    );
    refused(
        store.renew_claim(KeyClaim::new(&key("k"), ONE), LEASE).await,
        FENCED,
        "renew a completed claim",
    );
    let other = store.complete(KeyClaim::new(&key("other"), ONE), Vec::new(), LIFE).await;
    refused(other, FENCED, "complete an unclaimed key");
}

async fn what_a_claim_came_to<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = done(harness).await;
    let outcome =
        async |claim| expect(store.outcome(KeyClaim::new(&key("k"), claim)).await, "outcome");
    assert_eq!(outcome(ONE).await, Some(b"answer".to_vec()));
    assert_eq!(outcome(TWO).await, None, "the result belongs to another claim");
    harness.advance(LIFE).await;
    assert_eq!(claim(&store, TWO).await, Claimed::Owned);
    assert_eq!(outcome(TWO).await, None, "in flight");
    assert_eq!(outcome(ONE).await, None, "expired");
}

async fn only_what_has_expired_is_swept<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    for number in 0..5 {
        let key = key(&number.to_string());
        expect(store.claim(KeyClaim::new(&key, ONE), LEASE).await, "claim");
        if number < 3 {
            expect(
                store.complete(KeyClaim::new(&key, ONE), Vec::new(), LEASE * (1 + number)).await,
                "complete",
            );
        }
    }
    assert_eq!(expect(store.sweep_expired(9).await, "sweep"), 0);
    harness.advance(LEASE).await;
    let swept = [
        expect(store.sweep_expired(2).await, "sweep"),
        expect(store.sweep_expired(9).await, "sweep"),
    ];
    assert_eq!(swept, [2, 1], "one result and two claims");
    harness.advance(2 * LEASE).await;
    assert_eq!(expect(store.sweep_expired(9).await, "sweep"), 2);
}

async fn of_many_claims_at_once_one_owns<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    for _ in 0..20 {
        let store = harness.fresh().await;
        let other = harness.reopen(&store).await;
        let (one, two) = both(claim(&store, ONE), claim(&other, TWO)).await;
        let owns = |claimed: &Claimed<Vec<u8>>| *claimed == Claimed::Owned;
        assert!(owns(&one) != owns(&two), "{one} and {two}");
    }
}

async fn scopes_are_kept_apart<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    for scope in ["", "a", "b"] {
        let Ok(key) = Key::scoped(scope, "größe '; --") else { panic!("a key") };
        assert_eq!(
            expect(store.claim(KeyClaim::new(&key, ONE), LEASE).await, "claim"),
            Claimed::Owned
        );
    }
}

async fn work_is_done_though_its_result_is_not_kept<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let (key, print) = (key("k"), Some(Fingerprint::new(1)));
    expect(store.claim(KeyClaim::new(&key, ONE).fingerprint(print), LEASE).await, "claim");
    refused(
        store.complete_without_result(KeyClaim::new(&key, TWO), LIFE).await,
        FENCED,
        "another claim",
    );
    expect(store.complete_without_result(KeyClaim::new(&key, ONE), LIFE).await, "complete");
    expect(store.complete_without_result(KeyClaim::new(&key, ONE), LIFE).await, "complete again");
    refused(
        store.renew_claim(KeyClaim::new(&key, ONE), LEASE).await,
        FENCED,
        "renew a completed claim",
    );
    expect(store.release_claim(KeyClaim::new(&key, ONE)).await, "a release that does nothing");
    harness.advance(LIFE - GRAIN).await;
    let store = harness.reopen(&store).await;
    assert_eq!(claim(&store, TWO).await, Claimed::NotKept);
    assert_eq!(claim(&store, ONE).await, Claimed::NotKept);
    let other =
        store.claim(KeyClaim::new(&key, TWO).fingerprint(Some(Fingerprint::new(2))), LEASE).await;
    assert_eq!(expect(other, "claim"), Claimed::Mismatch);
    assert_eq!(expect(store.outcome(KeyClaim::new(&key, ONE)).await, "outcome"), None);
    assert_eq!(expect(store.sweep_expired(9).await, "sweep"), 0);
    harness.advance(GRAIN).await;
    assert_eq!(claim(&store, TWO).await, Claimed::Owned);
    refused(
        store.complete_without_result(KeyClaim::new(&key, ONE), LIFE).await,
        FENCED,
        "overtaken",
    );
}

async fn an_operation_that_is_never_polled_has_no_effect<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = harness.fresh().await;
    let key = key("k");
    drop(store.claim(KeyClaim::new(&key, ONE), LEASE));
    assert_eq!(claim(&store, TWO).await, Claimed::Owned, "claim");
    harness.advance(LEASE / 2).await;
    drop(store.renew_claim(KeyClaim::new(&key, TWO), LEASE));
    drop(store.release_claim(KeyClaim::new(&key, TWO)));
    drop(store.complete(KeyClaim::new(&key, TWO), b"answer".to_vec(), LIFE));
    drop(store.complete_without_result(KeyClaim::new(&key, TWO), LIFE));
    let left = Claimed::InFlight { lease_left: LEASE / 2 };
    assert_eq!(claim(&store, ONE).await, left, "renew, release, complete");
    expect(store.complete(KeyClaim::new(&key, TWO), b"answer".to_vec(), LIFE).await, "complete");
    harness.advance(LIFE).await;
    drop(store.sweep_expired(9));
    assert_eq!(expect(store.sweep_expired(9).await, "sweep"), 1);
}

async fn a_completion_that_is_never_polled_is_no_part_of_its_transaction<S: Completes<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    assert_eq!(claim(&store, ONE).await, Claimed::Owned);
    let mut tx = harness.begin(&store).await;
    drop(store.complete_in(
        &mut tx,
        Completion::new(KeyClaim::new(&key("k"), ONE), &b"answer".to_vec(), LIFE),
    ));
    harness.commit(tx).await;
    assert_eq!(expect(store.outcome(KeyClaim::new(&key("k"), ONE)).await, "outcome"), None);
    assert_eq!(claim(&store, TWO).await, Claimed::InFlight { lease_left: LEASE });
}

async fn a_result_is_there_when_its_transaction_is<S: Completes<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let (key, value) = (key("k"), b"answer".to_vec());
    assert_eq!(claim(&store, ONE).await, Claimed::Owned);
    let mut tx = harness.begin(&store).await;
    expect(
        store.complete_in(&mut tx, Completion::new(KeyClaim::new(&key, ONE), &value, LIFE)).await,
        "complete_in",
    );
    harness.roll_back(tx).await;
    assert_eq!(expect(store.outcome(KeyClaim::new(&key, ONE)).await, "outcome"), None);
    assert_eq!(claim(&store, TWO).await, Claimed::InFlight { lease_left: LEASE });
    let mut tx = harness.begin(&store).await;
    expect(
        store.complete_in(&mut tx, Completion::new(KeyClaim::new(&key, ONE), &value, LIFE)).await,
        "complete_in",
    );
    harness.commit(tx).await;
    assert_eq!(
        expect(store.outcome(KeyClaim::new(&key, ONE)).await, "outcome"),
        Some(value.clone())
    );
    assert_eq!(claim(&store, TWO).await, Claimed::Done(value));
}

async fn whoever_was_overtaken_cannot_complete_in_a_transaction<S: Completes<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    assert_eq!(claim(&store, ONE).await, Claimed::Owned);
    harness.advance(LEASE).await;
    assert_eq!(claim(&store, TWO).await, Claimed::Owned);
    let mut tx = harness.begin(&store).await;
    let late = store
        .complete_in(
            &mut tx,
            Completion::new(KeyClaim::new(&key("k"), ONE), &b"late".to_vec(), LIFE),
        )
        .await;
    refused(late, FENCED, "complete_in");
    harness.roll_back(tx).await;
    assert_eq!(expect(store.outcome(KeyClaim::new(&key("k"), ONE)).await, "outcome"), None);
}
