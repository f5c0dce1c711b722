//! Sagas that wait for a time.

use std::collections::BTreeSet;
use std::time::Duration;

use buttress::StoreErrorKind;
use buttress_durable::saga::{
    Append, Entry, Page, Record, SagaId, Status, Store, TakeOver, TakenOver, WorkerId,
};

use super::super::{GRAIN, Harness, both, cases, expect, refused};
use super::{LEASE, ONE, THREE, TWO, append, changed, done, saga, take_over, with};

/// Longer than a lease.
const WAIT: Duration = Duration::from_secs(60);

pub(super) async fn all<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    cases!(harness:
        a_wait_is_over_at_its_instant_and_its_old_owner_is_fenced,
        a_saga_that_waits_is_listed_with_its_time,
        a_wait_outlives_its_worker_and_no_worker_owns_it,
        a_wait_of_zero_is_over_and_one_without_end_is_not,
        a_wait_without_its_time_is_refused,
        a_cancel_ends_a_wait_and_changes_no_other_saga,
        a_wait_of_an_owner_that_does_not_know_of_a_cancel_is_over,
        a_wait_whose_answer_was_lost,
        an_owner_that_goes_on_waits_no_longer,
        a_saga_waits_again,
        the_longest_due_come_first_and_only_of_the_version,
        two_workers_share_the_sagas_that_are_due,
        a_worker_that_crashed_after_it_took_a_saga_is_replaced,
        a_take_while_the_owner_writes,
    );
}

/// Returns the append of a saga that waits, at position 1 under epoch 1.
fn wait(id: u128, length: Duration) -> Append<Vec<u8>> {
    wait_at(id, (1, 1), length)
}

fn wait_at(id: u128, (epoch, position): (u64, u64), length: Duration) -> Append<Vec<u8>> {
    let entries = vec![done(0, b"7"), Entry::wait_started(1, length)];
    Append::new(SagaId::new(id), epoch, position, entries, Status::Running).waiting(length)
}

/// Returns a store with sagas that wait, each for its time.
async fn waiting<S: Store<Vec<u8>>>(harness: &impl Harness<S>, waits: &[(u128, Duration)]) -> S {
    let ids: Vec<u128> = waits.iter().map(|(id, _)| *id).collect();
    let store = with(harness, &ids).await;
    for (id, length) in waits {
        expect(store.append(wait(*id, *length)).await, "wait");
    }
    store
}

async fn due<S: Store<Vec<u8>>>(store: &S) -> bool {
    expect(store.has_due("order", 3).await, "has_due")
}

async fn take_records<S: Store<Vec<u8>>>(
    store: &S,
    worker: WorkerId,
    limit: usize,
) -> Vec<Record<Vec<u8>>> {
    let taking = store.take_due(TakeOver::new(worker, ("order", 3), limit)).await;
    let TakenOver { sagas, corrupt, .. } = expect(taking, "take_due");
    assert_eq!(corrupt, []);
    sagas
}

async fn take<S: Store<Vec<u8>>>(store: &S, worker: WorkerId) -> Vec<(u128, u64)> {
    let taken = take_records(store, worker, 100).await;
    taken.into_iter().map(|record| (record.id.get(), record.epoch)).collect()
}

async fn load<S: Store<Vec<u8>>>(store: &S, id: u128) -> Record<Vec<u8>> {
    expect(store.load(SagaId::new(id)).await, "load").unwrap()
}

async fn a_wait_is_over_at_its_instant_and_its_old_owner_is_fenced<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = waiting(harness, &[(1, WAIT)]).await;
    harness.advance(WAIT - GRAIN).await;
    assert!(!due(&store).await);
    assert_eq!(take(&store, TWO).await, []);
    harness.advance(GRAIN).await;
    // The worker before is alive. It does not run a saga that waits.
    expect(store.renew_worker(ONE, LEASE).await, "renew");
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    assert!(due(&store).await);
    let taken = take_records(&store, TWO, 100).await;
    let [record] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((record.id, record.epoch), (SagaId::new(1), 2));
    assert_eq!((record.status, record.due_at), (Status::Running, None));
    assert_eq!(record.entries.last(), Some(&Entry::wait_started(1, WAIT)));
    let began = record.times.last().copied().flatten().unwrap();
    let waited = record.taken_at.unwrap().saturating_sub(began);
    assert!(waited >= WAIT - GRAIN && waited <= WAIT + GRAIN, "{waited:?}");
    assert!(!due(&store).await);
    assert_eq!(take(&store, THREE).await, [], "the worker that took it owns it");
    assert_eq!(take_over(&store, THREE).await, [], "the worker that took it is alive");
    let loaded = load(&store, 1).await;
    assert_eq!((loaded.status, loaded.epoch, loaded.due_at), (Status::Running, 2, None));
    let late = store.append(append(1, 1, 3, Status::Running)).await;
    refused(late, StoreErrorKind::Fenced, "the owner before");
    expect(store.append(append(1, 2, 3, Status::Running)).await, "the new owner");
}

async fn a_wait_of_an_owner_that_does_not_know_of_a_cancel_is_over<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[1, 2]).await;
    for id in [1, 2] {
        assert!(expect(store.request_cancel(SagaId::new(id)).await, "request_cancel"));
        let appended = store.append(wait(id, WAIT).knowing_cancel(id == 2)).await;
        assert!(expect(appended, "append").cancel_requested);
    }
    assert_eq!(take(&store, TWO).await, [(1, 2)], "its owner may end before it acts");
    harness.advance(WAIT - GRAIN).await;
    assert!(!due(&store).await, "a saga that cannot be undone any more waits its whole time");
    harness.advance(GRAIN).await;
    assert_eq!(take(&store, TWO).await, [(2, 2)]);
}

async fn a_saga_that_waits_is_listed_with_its_time<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness, &[(3, WAIT), (1, 2 * WAIT), (2, WAIT)]).await;
    expect(store.create(saga(4, ONE)).await, "create");
    for store in [&store, &harness.reopen(&store).await] {
        let record = load(store, 1).await;
        assert_eq!((record.status, record.taken_at), (Status::Waiting, None));
        let began = record.times.last().copied().flatten().unwrap();
        let length = record.due_at.unwrap().saturating_sub(began);
        assert!(length >= 2 * WAIT - GRAIN && length <= 2 * WAIT + GRAIN, "{length:?}");
        let page = Page::first(2).status(Status::Waiting);
        let first = expect(store.list(page).await, "list");
        let ids: Vec<u128> = first.iter().map(|saga| saga.id.get()).collect();
        assert_eq!(ids, [1, 2]);
        assert_eq!(first[0].due_at, record.due_at);
        let next = expect(store.list(page.after(SagaId::new(2))).await, "list");
        assert_eq!(next.iter().map(|saga| saga.id.get()).collect::<Vec<_>>(), [3]);
        let runs = expect(store.list(Page::first(9).status(Status::Running)).await, "list");
        assert_eq!(runs.iter().map(|saga| saga.id.get()).collect::<Vec<_>>(), [4]);
        assert_eq!(runs[0].due_at, None);
        assert_eq!(expect(store.list(Page::first(9)).await, "list").len(), 4);
    }
}

async fn a_wait_outlives_its_worker_and_no_worker_owns_it<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = waiting(harness, &[(1, WAIT)]).await;
    assert_eq!(expect(store.owned(ONE, "order", 3).await, "owned"), []);
    assert!(!expect(store.has_unowned("order", 3).await, "has_unowned"));
    expect(store.release_worker(ONE).await, "retire");
    let store = harness.reopen(&store).await;
    expect(store.renew_worker(TWO, 9 * WAIT).await, "renew");
    assert_eq!(take_over(&store, TWO).await, [], "it needs no worker");
    assert_eq!(expect(store.other_versions("order", &[4], 9).await, "other_versions"), []);
    assert_eq!(expect(store.purge_sagas(None, Duration::ZERO, 9).await, "purge"), 0);
    harness.advance(2 * WAIT).await;
    assert_eq!(take(&store, TWO).await, [(1, 2)]);
}

async fn a_wait_of_zero_is_over_and_one_without_end_is_not<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = waiting(harness, &[(1, Duration::ZERO), (2, Duration::MAX)]).await;
    assert!(due(&store).await);
    assert_eq!(take(&store, TWO).await, [(1, 2)]);
    harness.advance(1000 * WAIT).await;
    assert!(!due(&store).await);
    assert_eq!(load(&store, 2).await.entries.last().and_then(Entry::wait), Some(Duration::MAX));
}

async fn a_wait_without_its_time_is_refused<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    let endless = changed(wait(1, WAIT), |append| append.due_in = None);
    refused(store.append(endless).await, StoreErrorKind::Invalid, "no worker would wake it");
    assert_eq!(load(&store, 1).await.entries.len(), 1);
    let runs = changed(wait(1, WAIT), |append| append.status = Status::Running);
    expect(store.append(runs).await, "a time without a wait");
    harness.advance(2 * WAIT).await;
    assert!(!due(&store).await);
    assert_eq!(load(&store, 1).await.due_at, None);
}

async fn a_cancel_ends_a_wait_and_changes_no_other_saga<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = waiting(harness, &[(1, WAIT), (2, WAIT)]).await;
    harness.advance(GRAIN).await;
    assert!(expect(store.request_cancel(SagaId::new(1)).await, "cancel"));
    assert!(due(&store).await, "immediately");
    let taken = take_records(&store, TWO, 9).await;
    let [record] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((record.id, record.cancel_requested), (SagaId::new(1), true));
    let began = record.times.last().copied().flatten().unwrap();
    assert!(record.taken_at.unwrap() < began + WAIT, "the time has not come");
    assert!(!due(&store).await);
    // A saga past its point of no return waits on.
    expect(store.append(wait_at(1, (2, 3), WAIT).knowing_cancel(true)).await, "wait again");
    assert!(!due(&store).await);
    harness.advance(WAIT).await;
    assert_eq!(
        take(&store, TWO).await.into_iter().collect::<BTreeSet<_>>(),
        [(1, 3), (2, 2)].into()
    );
}

async fn a_wait_whose_answer_was_lost<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness, &[(1, WAIT)]).await;
    harness.advance(WAIT / 2).await;
    expect(store.append(wait(1, WAIT)).await, "again");
    let other = changed(wait(1, WAIT), |append| {
        append.entries[1] = Entry::wait_started(1, 2 * WAIT);
    });
    refused(store.append(other).await, StoreErrorKind::Conflict, "other content");
    assert_eq!(load(&store, 1).await.entries.len(), 3);
    harness.advance(WAIT / 2).await;
    assert_eq!(take(&store, TWO).await, [(1, 2)], "the wait did not begin again");
    refused(store.append(wait(1, WAIT)).await, StoreErrorKind::Fenced, "it was taken");
}

async fn an_owner_that_goes_on_waits_no_longer<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness, &[(1, WAIT), (2, WAIT)]).await;
    // A cancel came while the owner wrote the wait: it continues under its own epoch.
    expect(store.append(append(1, 1, 3, Status::Unwinding)).await, "append");
    expect(store.append(append(2, 1, 3, Status::Completed)).await, "append");
    assert_eq!(expect(store.owned(ONE, "order", 3).await, "owned"), [SagaId::new(1)]);
    harness.advance(2 * WAIT).await;
    assert!(!due(&store).await);
    assert_eq!(load(&store, 1).await.due_at, None);
    assert_eq!(take_over(&store, TWO).await, [(SagaId::new(1), 2)], "it has an owner again");
}

async fn a_saga_waits_again<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = waiting(harness, &[(1, WAIT)]).await;
    for round in 1..4_u64 {
        harness.advance(WAIT).await;
        expect(store.renew_worker(TWO, LEASE).await, "renew");
        assert_eq!(take(&store, TWO).await, [(1, round + 1)]);
        expect(store.append(wait_at(1, (round + 1, 1 + 2 * round), WAIT)).await, "wait");
        harness.advance(WAIT - GRAIN).await;
        assert!(!due(&store).await);
        harness.advance(GRAIN).await;
        assert!(due(&store).await);
    }
}

async fn the_longest_due_come_first_and_only_of_the_version<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let second = Duration::from_secs(1);
    let waits = [(1, 4 * second), (2, second), (3, 3 * second), (4, 2 * second), (5, WAIT)];
    let store = waiting(harness, &waits).await;
    let other = changed(saga(6, ONE), |saga| saga.version = 4);
    expect(store.create(other).await, "create");
    let other = changed(saga(7, ONE), |saga| saga.definition = "refund".to_owned());
    expect(store.create(other).await, "create");
    for id in [6, 7] {
        expect(store.append(wait(id, second)).await, "wait");
    }
    harness.advance(5 * second).await;
    let mut order = Vec::new();
    loop {
        let taken = take_records(&store, TWO, 3).await;
        if taken.is_empty() {
            break;
        }
        order.push(taken.iter().map(|record| record.id.get()).collect::<Vec<_>>());
    }
    assert_eq!(order, [vec![2, 4, 3], vec![1]]);
    assert!(expect(store.has_due("order", 4).await, "has_due"));
    assert!(expect(store.has_due("refund", 3).await, "has_due"));
    assert!(!expect(store.has_due("refund", 4).await, "has_due"));
}

async fn two_workers_share_the_sagas_that_are_due<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let ids: Vec<u128> = (1..=40).collect();
    let waits: Vec<(u128, Duration)> = ids.iter().map(|id| (*id, WAIT)).collect();
    let store = waiting(harness, &waits).await;
    let other = harness.reopen(&store).await;
    harness.advance(WAIT).await;
    let (one, two) = both(take(&store, TWO), take(&other, THREE)).await;
    // A row that the other worker locks is left for the next look.
    let rest = take(&store, TWO).await;
    let all: BTreeSet<_> = one.iter().chain(&two).chain(&rest).copied().collect();
    assert_eq!(all.len(), one.len() + two.len() + rest.len(), "a saga was handed out twice");
    assert_eq!(all, ids.iter().map(|id| (*id, 2)).collect());
}

async fn a_worker_that_crashed_after_it_took_a_saga_is_replaced<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = waiting(harness, &[(1, WAIT)]).await;
    harness.advance(WAIT).await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    assert_eq!(take(&store, TWO).await, [(1, 2)]);
    harness.advance(LEASE).await;
    expect(store.renew_worker(THREE, LEASE).await, "renew");
    let taken = store.take_abandoned(TakeOver::new(THREE, ("order", 3), 9)).await;
    let taken = expect(taken, "take_over").sagas;
    let [record] = &taken[..] else { panic!("{taken:?}") };
    assert_eq!((record.epoch, record.status), (3, Status::Running));
    assert_eq!(record.entries.last(), Some(&Entry::wait_started(1, WAIT)));
    let began = record.times.last().copied().flatten().unwrap();
    assert!(record.taken_at.unwrap() >= began + WAIT + LEASE - GRAIN);
    refused(store.append(wait_at(1, (2, 3), WAIT)).await, StoreErrorKind::Fenced, "the one before");
}

async fn a_take_while_the_owner_writes<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    // Either order is right, but both operations must agree on it.
    for id in 1..=20 {
        let store = waiting(harness, &[(id, Duration::ZERO)]).await;
        let other = harness.reopen(&store).await;
        expect(other.renew_worker(TWO, LEASE).await, "renew");
        let write = store.append(append(id, 1, 3, Status::Unwinding));
        let (written, taken) = both(write, take(&other, TWO)).await;
        let record = load(&store, id).await;
        match written {
            Ok(_) => {
                assert_eq!((taken.len(), record.entries.len()), (0, 4), "the owner came first");
                assert_eq!((record.status, record.epoch), (Status::Unwinding, 1));
            }
            Err(error) if error.is_fenced() => {
                assert_eq!((&taken[..], record.entries.len()), (&[(id, 2)][..], 3));
                assert_eq!((record.status, record.epoch), (Status::Running, 2));
            }
            Err(error) => panic!("neither written nor fenced: {error}"),
        }
    }
}
