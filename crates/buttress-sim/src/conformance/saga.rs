//! Stores of saga logs.

use std::collections::BTreeSet;
use std::time::Duration;

use buttress::saga::{
    Append, Appended, Entry, EntryKind, NewSaga, SagaId, Status, Store, WorkerId,
};
use buttress::{StoreError, StoreErrorKind};

use super::{GRAIN, Harness, both, cases, expect, refused};

const LEASE: Duration = Duration::from_secs(10);
const ONE: WorkerId = WorkerId::new(1);
const TWO: WorkerId = WorkerId::new(2);
const THREE: WorkerId = WorkerId::new(3);

/// Every case.
pub async fn all<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    cases!(harness:
        what_is_written_is_read,
        a_create_whose_answer_was_lost,
        an_append_whose_answer_was_lost,
        a_log_has_no_gaps,
        an_older_epoch_is_fenced,
        a_lease_ends_at_its_instant,
        a_renewed_lease_holds_and_a_retired_one_does_not,
        only_unfinished_sagas_of_the_version_are_taken,
        oldest_first_and_no_more_than_asked_for,
        one_saga_is_taken_only_if_it_is_free,
        a_cancel_reaches_the_owner,
        lists_come_in_pages,
        only_what_ended_long_ago_is_purged,
        two_take_overs_share_what_there_is,
        a_take_over_while_a_write_is_in_flight,
        one_bad_append_among_many_disturbs_nobody,
        any_bytes_are_kept,
    );
}

fn entry(kind: EntryKind, step: u16, payload: Option<&[u8]>) -> Entry<Vec<u8>> {
    Entry { kind, step, payload: payload.map(<[u8]>::to_vec), note: None }
}

fn saga(id: u128, worker: WorkerId) -> NewSaga<Vec<u8>> {
    NewSaga {
        id: SagaId::new(id),
        definition: "order".to_owned(),
        version: 3,
        codec: "json",
        worker,
        deadline: Some(Duration::from_secs(2_000_000_000)),
        input: b"{}".to_vec(),
        entries: vec![entry(EntryKind::ActionStarted, 0, None)],
    }
}

fn append(id: u128, epoch: u64, position: u64, status: Status) -> Append<Vec<u8>> {
    Append {
        saga: SagaId::new(id),
        epoch,
        position,
        entries: vec![entry(EntryKind::ActionDone, 0, Some(b"7"))],
        status,
    }
}

/// A store in which worker one is alive and runs these sagas.
async fn with<S: Store<Vec<u8>>>(harness: &impl Harness<S>, sagas: &[u128]) -> S {
    let store = harness.fresh().await;
    expect(store.renew(ONE, LEASE).await, "renew");
    for id in sagas {
        expect(store.create(saga(*id, ONE)).await, "create");
    }
    store
}

async fn take_over<S: Store<Vec<u8>>>(store: &S, worker: WorkerId) -> Vec<(SagaId, u64)> {
    let taken = expect(store.take_over(worker, "order", 3, 100).await, "take_over");
    assert_eq!(taken.corrupt, []);
    taken.sagas.into_iter().map(|record| (record.id, record.epoch)).collect()
}

async fn what_is_written_is_read<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[1]).await;
    let mut more = append(1, 1, 1, Status::Unwinding);
    more.entries.push(Entry {
        kind: EntryKind::Unwinding,
        step: 0,
        payload: None,
        note: Some("größer".to_owned()),
    });
    expect(store.append(more.clone()).await, "append");
    for store in [&store, &harness.reopen(&store).await] {
        let record = expect(store.load(SagaId::new(1)).await, "load").unwrap();
        let begun = saga(1, ONE);
        assert_eq!((record.definition, record.version), (begun.definition, begun.version));
        assert_eq!((record.codec.as_str(), record.epoch), (begun.codec, 1));
        assert_eq!((record.status, record.cancel_requested), (Status::Unwinding, false));
        assert_eq!((record.deadline, record.input), (begun.deadline, begun.input));
        assert_eq!(record.entries, [&begun.entries[..], &more.entries].concat());
    }
    assert!(expect(store.load(SagaId::new(2)).await, "load").is_none());
}

async fn a_create_whose_answer_was_lost<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[1]).await;
    expect(store.create(saga(1, ONE)).await, "the same again");
    let conflict = StoreErrorKind::Conflict;
    let other = NewSaga { input: b"[]".to_vec(), ..saga(1, ONE) };
    refused(store.create(other).await, conflict, "another input");
    refused(store.create(saga(1, TWO)).await, conflict, "another worker");
    let longer =
        vec![entry(EntryKind::ActionStarted, 0, None), entry(EntryKind::ActionDone, 0, None)];
    let longer = NewSaga { entries: longer, ..saga(1, ONE) };
    refused(store.create(longer).await, conflict, "more entries");
    expect(store.append(append(1, 1, 1, Status::Running)).await, "append");
    refused(store.create(saga(1, ONE)).await, conflict, "once it has gone on");
}

async fn an_append_whose_answer_was_lost<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[1]).await;
    for _ in 0..2 {
        let appended = expect(store.append(append(1, 1, 1, Status::Running)).await, "append");
        assert_eq!(appended, Appended::new(false));
    }
    let mut other = append(1, 1, 1, Status::Running);
    other.entries[0].payload = Some(b"8".to_vec());
    refused(store.append(other).await, StoreErrorKind::Conflict, "other content");
    // The last one too, which ends the saga.
    let mut last = append(1, 1, 2, Status::Completed);
    last.entries = vec![entry(EntryKind::Completed, 0, None)];
    for _ in 0..2 {
        expect(store.append(last.clone()).await, "the end");
    }
    let record = expect(store.load(SagaId::new(1)).await, "load").unwrap();
    assert_eq!((record.entries.len(), record.status), (3, Status::Completed));
}

async fn a_log_has_no_gaps<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[1]).await;
    let gap = store.append(append(1, 1, 2, Status::Running)).await;
    refused(gap, StoreErrorKind::Conflict, "beyond the end");
    let record = expect(store.load(SagaId::new(1)).await, "load").unwrap();
    assert_eq!(record.entries.len(), 1);
}

async fn an_older_epoch_is_fenced<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[1]).await;
    harness.advance(LEASE).await;
    expect(store.renew(TWO, LEASE).await, "renew");
    assert_eq!(take_over(&store, TWO).await, [(SagaId::new(1), 2)]);
    // The old owner wakes up, and renews its lease; its saga is gone all the same.
    expect(store.renew(ONE, LEASE).await, "renew");
    let late = store.append(append(1, 1, 1, Status::Running)).await;
    refused(late, StoreErrorKind::Fenced, "an old owner");
    expect(store.append(append(1, 2, 1, Status::Running)).await, "the new owner");
    let repeated = store.append(append(1, 1, 1, Status::Running)).await;
    refused(repeated, StoreErrorKind::Fenced, "an old owner with the same content");
    let unknown = store.append(append(9, 1, 1, Status::Running)).await;
    refused(unknown, StoreErrorKind::Fenced, "a saga nobody knows");
}

async fn a_lease_ends_at_its_instant<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[1]).await;
    expect(store.renew(TWO, 3 * LEASE).await, "renew");
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(take_over(&store, TWO).await, []);
    harness.advance(GRAIN).await;
    assert_eq!(take_over(&store, TWO).await, [(SagaId::new(1), 2)]);
    assert_eq!(take_over(&store, TWO).await, [], "it is its own now");
    // Nobody else takes it while the new owner lives.
    expect(store.renew(THREE, 9 * LEASE).await, "renew");
    assert_eq!(take_over(&store, THREE).await, []);
    harness.advance(2 * LEASE).await;
    assert_eq!(take_over(&store, THREE).await, [(SagaId::new(1), 3)]);
}

async fn a_renewed_lease_holds_and_a_retired_one_does_not<S: Store<Vec<u8>>, H: Harness<S>>(
    harness: &H,
) {
    let store = with(harness, &[1]).await;
    harness.advance(LEASE - GRAIN).await;
    expect(store.renew(ONE, LEASE).await, "renew");
    expect(store.renew(TWO, 3 * LEASE).await, "renew");
    harness.advance(LEASE - GRAIN).await;
    assert_eq!(take_over(&store, TWO).await, []);
    expect(store.retire(ONE).await, "retire");
    expect(store.retire(ONE).await, "retire again");
    assert_eq!(take_over(&store, TWO).await, [(SagaId::new(1), 2)]);
}

async fn only_unfinished_sagas_of_the_version_are_taken<S: Store<Vec<u8>>, H: Harness<S>>(
    harness: &H,
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
    let other = NewSaga { version: 4, ..saga(6, ONE) };
    expect(store.create(other).await, "create");
    let other = NewSaga { definition: "refund".to_owned(), ..saga(7, ONE) };
    expect(store.create(other).await, "create");
    harness.advance(LEASE).await;
    expect(store.renew(TWO, LEASE).await, "renew");
    let taken: BTreeSet<_> = take_over(&store, TWO).await.into_iter().collect();
    assert_eq!(taken, BTreeSet::from([(SagaId::new(1), 2), (SagaId::new(5), 2)]));
}

async fn oldest_first_and_no_more_than_asked_for<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[]).await;
    for id in [5, 3, 4, 1] {
        expect(store.create(saga(id, ONE)).await, "create");
        harness.advance(GRAIN).await;
    }
    harness.advance(LEASE).await;
    expect(store.renew(TWO, LEASE).await, "renew");
    let mut order = Vec::new();
    loop {
        let taken = expect(store.take_over(TWO, "order", 3, 3).await, "take_over");
        if taken.sagas.is_empty() {
            break;
        }
        order.push(taken.sagas.iter().map(|record| record.id.get()).collect::<Vec<_>>());
    }
    assert_eq!(order, [vec![5, 3, 4], vec![1]]);
}

async fn one_saga_is_taken_only_if_it_is_free<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[1, 2, 3]).await;
    expect(store.renew(TWO, 3 * LEASE).await, "renew");
    expect(store.append(append(2, 1, 1, Status::Stuck)).await, "append");
    expect(store.append(append(3, 1, 1, Status::Completed)).await, "append");
    let take = async |id| expect(store.take(TWO, SagaId::new(id)).await, "take");
    assert!(take(1).await.is_none(), "its worker lives");
    let stuck = take(2).await.unwrap();
    assert_eq!((stuck.epoch, stuck.status, stuck.entries.len()), (2, Status::Stuck, 2));
    assert!(take(3).await.is_none(), "it has ended");
    assert!(take(4).await.is_none(), "it does not exist");
    let late = store.append(append(2, 1, 2, Status::Running)).await;
    refused(late, StoreErrorKind::Fenced, "whoever had it before");
    harness.advance(LEASE).await;
    assert_eq!(take(1).await.unwrap().epoch, 2);
}

async fn a_cancel_reaches_the_owner<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[1]).await;
    let cancel = async |id| expect(store.request_cancel(SagaId::new(id)).await, "cancel");
    assert!(cancel(1).await);
    assert!(!cancel(2).await);
    let appended = expect(store.append(append(1, 1, 1, Status::Running)).await, "append");
    assert!(appended.cancel_requested);
    let record = expect(store.load(SagaId::new(1)).await, "load").unwrap();
    assert!(record.cancel_requested);
    expect(store.append(append(1, 1, 2, Status::Compensated)).await, "append");
    assert!(!cancel(1).await, "it has ended");
}

async fn lists_come_in_pages<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[4, 2, 3, 1]).await;
    expect(store.append(append(3, 1, 1, Status::Stuck)).await, "append");
    let list = async |status, after: Option<u128>, limit| {
        let found = store.list(status, after.map(SagaId::new), limit).await;
        let found = expect(found, "list").into_iter();
        found.map(|summary| summary.id.get()).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 3).await, [1, 2, 3]);
    assert_eq!(list(None, Some(3), 3).await, [4]);
    assert_eq!(list(Some(Status::Stuck), None, 9).await, [3]);
    assert_eq!(list(Some(Status::Running), Some(1), 9).await, [2, 4]);
}

async fn only_what_ended_long_ago_is_purged<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let store = with(harness, &[1, 2, 3, 4]).await;
    for id in [1, 2] {
        expect(store.append(append(id, 1, 1, Status::Completed)).await, "append");
    }
    harness.advance(LEASE).await;
    expect(store.append(append(3, 1, 1, Status::Compensated)).await, "append");
    let purge = async |limit| expect(store.purge(LEASE, limit).await, "purge");
    assert_eq!(purge(1).await, 1);
    assert_eq!(purge(9).await, 1);
    assert_eq!(purge(9).await, 0, "the third ended too late");
    harness.advance(LEASE).await;
    assert_eq!(purge(9).await, 1);
    let left = expect(store.list(None, None, 9).await, "list");
    assert_eq!(left.len(), 1, "what has not ended is never purged");
}

async fn two_take_overs_share_what_there_is<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let ids: Vec<u128> = (1..=40).collect();
    let store = with(harness, &ids).await;
    let other = harness.reopen(&store).await;
    harness.advance(LEASE).await;
    expect(store.renew(TWO, LEASE).await, "renew");
    expect(other.renew(THREE, LEASE).await, "renew");
    let (one, two) = both(take_over(&store, TWO), take_over(&other, THREE)).await;
    let all: BTreeSet<_> = one.iter().chain(&two).copied().collect();
    assert_eq!(all.len(), one.len() + two.len(), "a saga was handed out twice");
    assert_eq!(all, ids.iter().map(|id| (SagaId::new(*id), 2)).collect());
}

async fn a_take_over_while_a_write_is_in_flight<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    // Either order is right, but the two must agree on it.
    for id in 1..=20 {
        let store = with(harness, &[id]).await;
        let other = harness.reopen(&store).await;
        harness.advance(LEASE).await;
        expect(other.renew(TWO, LEASE).await, "renew");
        let write = store.append(append(id, 1, 1, Status::Running));
        let (written, taken) = both(write, other.take_over(TWO, "order", 3, 9)).await;
        let taken = expect(taken, "take_over").sagas;
        let entries = taken[0].entries.len();
        match written {
            Ok(_) => assert_eq!(entries, 2, "written before, so the new owner must know it"),
            Err(error) if error.is_fenced() => assert_eq!(entries, 1),
            Err(error) => panic!("neither written nor fenced: {error}"),
        }
        let record = expect(store.load(SagaId::new(id)).await, "load").unwrap();
        assert_eq!(record.entries.len(), entries, "nothing was written after the take-over");
    }
}

async fn one_bad_append_among_many_disturbs_nobody<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let ids: Vec<u128> = (1..=30).collect();
    let store = with(harness, &ids).await;
    let appends = ids.iter().map(|id| {
        let epoch = if id % 10 == 0 { 7 } else { 1 };
        store.append(append(*id, epoch, 1, Status::Running))
    });
    let results = all_at_once(appends).await;
    for (id, result) in ids.iter().zip(results) {
        match id % 10 {
            0 => refused(result, StoreErrorKind::Fenced, "a wrong epoch"),
            _ => drop(expect(result, "append")),
        }
    }
}

async fn all_at_once<T: Future<Output = Result<Appended, StoreError>>>(
    futures: impl Iterator<Item = T>,
) -> Vec<Result<Appended, StoreError>> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx| {
        for (future, result) in &mut futures {
            if result.is_none()
                && let std::task::Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *result = Some(value);
            }
        }
        match futures.iter().all(|(_, result)| result.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    futures.into_iter().filter_map(|(_, result)| result).collect()
}

async fn any_bytes_are_kept<S: Store<Vec<u8>>, H: Harness<S>>(harness: &H) {
    let bytes: Vec<u8> = (0..=255).collect();
    let store = with(harness, &[]).await;
    expect(store.create(NewSaga { input: bytes.clone(), ..saga(1, ONE) }).await, "create");
    let mut more = append(1, 1, 1, Status::Running);
    more.entries[0].payload = Some(bytes.clone());
    more.entries[0].note = Some("'; -- \"{}[]\\ \u{1f680}".to_owned());
    more.entries.push(entry(EntryKind::ActionDone, u16::MAX, Some(b"")));
    expect(store.append(more.clone()).await, "append");
    let record = expect(harness.reopen(&store).await.load(SagaId::new(1)).await, "load").unwrap();
    assert_eq!(record.input, bytes);
    assert_eq!(record.entries[1..], more.entries[..]);
}
