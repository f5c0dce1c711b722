//! The owner of each saga, and take-overs.

use std::collections::BTreeSet;

use buttress::StoreErrorKind;
use buttress_durable::saga::{SagaId, Status, Store, TakeOver};

use super::super::{GRAIN, Harness, both, cases, expect, refused};
use super::{LEASE, ONE, THREE, TWO, append, changed, saga, take_over, with};

pub(super) async fn all<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    cases!(harness:
        an_older_epoch_is_fenced,
        a_lease_ends_at_its_instant,
        a_renewed_lease_holds_and_a_retired_one_does_not,
        only_unfinished_sagas_of_the_version_are_taken,
        sagas_of_other_versions_are_found_once_their_workers_are_gone,
        oldest_first_and_no_more_than_asked_for,
        one_saga_is_taken_only_if_it_is_free,
        what_a_worker_owns_is_found_and_taken_again,
        two_take_overs_share_what_there_is,
        a_take_over_while_a_write_is_in_flight,
    );
}

async fn an_older_epoch_is_fenced<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    harness.advance(LEASE).await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    assert_eq!(take_over(&store, TWO).await, [(SagaId::new(1), 2)]);
    // The old owner wakes up and renews its lease. Another worker owns its saga nevertheless.
    expect(store.renew_worker(ONE, LEASE).await, "renew");
    let late = store.append(append(1, 1, 1, Status::Running)).await;
    refused(late, StoreErrorKind::Fenced, "an old owner");
    expect(store.append(append(1, 2, 1, Status::Running)).await, "the new owner");
    let repeated = store.append(append(1, 1, 1, Status::Running)).await;
    refused(repeated, StoreErrorKind::Fenced, "an old owner with the same content");
    let unknown = store.append(append(9, 1, 1, Status::Running)).await;
    refused(unknown, StoreErrorKind::Fenced, "an unknown saga");
}

async fn a_lease_ends_at_its_instant<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    expect(store.renew_worker(TWO, 3 * LEASE).await, "renew");
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(take_over(&store, TWO).await, []);
    harness.advance(GRAIN).await;
    assert_eq!(take_over(&store, TWO).await, [(SagaId::new(1), 2)]);
    assert_eq!(take_over(&store, TWO).await, [], "the worker owns it now");
    // No other worker takes it while the new owner is alive.
    expect(store.renew_worker(THREE, 9 * LEASE).await, "renew");
    assert_eq!(take_over(&store, THREE).await, []);
    harness.advance(2 * LEASE).await;
    assert_eq!(take_over(&store, THREE).await, [(SagaId::new(1), 3)]);
}

async fn a_renewed_lease_holds_and_a_retired_one_does_not<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[1]).await;
    harness.advance(LEASE - GRAIN).await;
    expect(store.renew_worker(ONE, LEASE).await, "renew");
    expect(store.renew_worker(TWO, 3 * LEASE).await, "renew");
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(take_over(&store, TWO).await, []);
    expect(store.release_worker(ONE).await, "retire");
    expect(store.release_worker(ONE).await, "retire again");
    assert_eq!(take_over(&store, TWO).await, [(SagaId::new(1), 2)]);
}

async fn only_unfinished_sagas_of_the_version_are_taken<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[1, 2, 3, 4, 5]).await;
    let ends = [
        (2, Status::Completed),
        (3, Status::Compensated),
        (4, Status::Stuck),
        (5, Status::Unwinding),
    ];
    for (id, status) in ends {
        expect(store.append(append(id, 1, 1, status)).await, "append");
    }
    let other = changed(saga(6, ONE), |saga| saga.version = 4);
    expect(store.create(other).await, "create");
    let other = changed(saga(7, ONE), |saga| saga.definition = "refund".to_owned());
    expect(store.create(other).await, "create");
    harness.advance(LEASE).await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    let taken: BTreeSet<_> = take_over(&store, TWO).await.into_iter().collect();
    assert_eq!(taken, BTreeSet::from([(SagaId::new(1), 2), (SagaId::new(5), 2)]));
}

async fn sagas_of_other_versions_are_found_once_their_workers_are_gone<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[1]).await;
    for (id, version) in [(9, 2), (2, 4), (3, 2), (4, 4)] {
        expect(store.create(changed(saga(id, ONE), |saga| saga.version = version)).await, "create");
        harness.advance(GRAIN).await;
    }
    expect(store.append(append(2, 1, 1, Status::Completed)).await, "append");
    expect(store.append(append(3, 1, 1, Status::Unwinding)).await, "append");
    let other = changed(saga(7, ONE), |saga| {
        saga.definition = "refund".to_owned();
        saga.version = 2;
    });
    expect(store.create(other).await, "create");
    let others = async |limit| {
        let found = expect(store.other_versions("order", &[3], limit).await, "other_versions");
        found.into_iter().map(|saga| (saga.id.get(), saga.version)).collect::<Vec<_>>()
    };
    assert_eq!(others(9).await, [], "the worker is alive");
    harness.advance(LEASE).await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    assert_eq!(others(9).await, [(9, 2), (3, 2), (4, 4)], "oldest first");
    assert_eq!(others(1).await, [(9, 2)]);
    assert_eq!(
        take_over(&store, TWO).await,
        [(SagaId::new(1), 2)],
        "and the other saga is not taken"
    );
}

async fn oldest_first_and_no_more_than_asked_for<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[]).await;
    for id in [5, 3, 4, 1] {
        expect(store.create(saga(id, ONE)).await, "create");
        harness.advance(GRAIN).await;
    }
    harness.advance(LEASE).await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    let mut order = Vec::new();
    loop {
        let taken =
            expect(store.take_abandoned(TakeOver::new(TWO, ("order", 3), 3)).await, "take_over");
        if taken.sagas.is_empty() {
            break;
        }
        order.push(taken.sagas.iter().map(|record| record.id.get()).collect::<Vec<_>>());
    }
    assert_eq!(order, [vec![5, 3, 4], vec![1]]);
}

async fn one_saga_is_taken_only_if_it_is_free<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1, 2, 3]).await;
    expect(store.renew_worker(TWO, 3 * LEASE).await, "renew");
    expect(store.append(append(2, 1, 1, Status::Stuck)).await, "append");
    expect(store.append(append(3, 1, 1, Status::Completed)).await, "append");
    let take = async |id| expect(store.take_saga(TWO, SagaId::new(id)).await, "take");
    assert!(take(1).await.is_none(), "its worker is alive");
    let stuck = take(2).await.unwrap();
    assert_eq!((stuck.epoch, stuck.status, stuck.entries.len()), (2, Status::Stuck, 2));
    assert!(take(3).await.is_none(), "it has ended");
    assert!(take(4).await.is_none(), "it does not exist");
    let late = store.append(append(2, 1, 2, Status::Running)).await;
    refused(late, StoreErrorKind::Fenced, "the owner before");
    harness.advance(LEASE).await;
    assert_eq!(take(1).await.unwrap().epoch, 2);
}

/// A take-over whose answer was lost: the worker finds the saga that it owns, and takes it again.
async fn what_a_worker_owns_is_found_and_taken_again<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1, 2, 3, 4]).await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    expect(store.append(append(2, 1, 1, Status::Stuck)).await, "append");
    expect(store.append(append(3, 1, 1, Status::Completed)).await, "append");
    expect(store.append(append(4, 1, 1, Status::Unwinding)).await, "append");
    let owned = expect(store.owned(ONE, "order", 3).await, "owned");
    let owned: BTreeSet<SagaId> = owned.into_iter().collect();
    assert_eq!(owned, [1, 4].map(SagaId::new).into(), "neither stuck nor ended");
    let version = expect(store.owned(ONE, "order", 4).await, "owned");
    let definition = expect(store.owned(ONE, "other", 3).await, "owned");
    assert!(version.is_empty() && definition.is_empty(), "another definition");
    let taken = expect(store.take_saga(ONE, SagaId::new(4)).await, "take").unwrap();
    assert_eq!((taken.epoch, taken.status, taken.entries.len()), (2, Status::Unwinding, 2));
    let late = store.append(append(4, 1, 2, Status::Unwinding)).await;
    refused(late, StoreErrorKind::Fenced, "an append under the epoch before");
    expect(store.append(append(4, 2, 2, Status::Unwinding)).await, "append");
    assert!(
        expect(store.take_saga(TWO, SagaId::new(4)).await, "take").is_none(),
        "its worker is alive"
    );
    assert!(expect(store.take_saga(ONE, SagaId::new(3)).await, "take").is_none(), "it has ended");
}

async fn two_take_overs_share_what_there_is<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let ids: Vec<u128> = (1..=40).collect();
    let store = with(harness, &ids).await;
    let other = harness.reopen(&store).await;
    harness.advance(LEASE).await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    expect(other.renew_worker(THREE, LEASE).await, "renew");
    let (one, two) = both(take_over(&store, TWO), take_over(&other, THREE)).await;
    let all: BTreeSet<_> = one.iter().chain(&two).copied().collect();
    assert_eq!(all.len(), one.len() + two.len(), "a saga was handed out twice");
    assert_eq!(all, ids.iter().map(|id| (SagaId::new(*id), 2)).collect());
}

async fn a_take_over_while_a_write_is_in_flight<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    // Either order is right, but both operations must agree on it.
    for id in 1..=20 {
        let store = with(harness, &[id]).await;
        let other = harness.reopen(&store).await;
        harness.advance(LEASE).await;
        expect(other.renew_worker(TWO, LEASE).await, "renew");
        let write = store.append(append(id, 1, 1, Status::Running));
        let (written, taken) =
            both(write, other.take_abandoned(TakeOver::new(TWO, ("order", 3), 9))).await;
        let taken = expect(taken, "take_over").sagas;
        let entries = taken[0].entries.len();
        match written {
            Ok(_) => assert_eq!(entries, 2, "appended before, so the new owner must read it"),
            Err(error) if error.is_fenced() => assert_eq!(entries, 1),
            Err(error) => panic!("neither written nor fenced: {error}"),
        }
        let record = expect(store.load(SagaId::new(id)).await, "load").unwrap();
        assert_eq!(record.entries.len(), entries, "no append succeeded after the take-over");
    }
}
