//! Writing, reading, listing and purging logs.

use std::time::Duration;

use buttress::{StoreError, StoreErrorKind};
use buttress_durable::saga::{
    Appended, Beginning, Entry, EntryKind, Page, SagaId, Status, Store, TakeOver,
};

use super::super::{GRAIN, Harness, cases, expect, refused};
use super::{LEASE, ONE, TWO, append, changed, done, saga, take_over, with};

pub(super) async fn all<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    cases!(harness:
        what_is_written_is_read,
        a_create_whose_answer_was_lost,
        a_create_of_a_saga_that_its_worker_took_over,
        an_append_whose_answer_was_lost,
        a_log_has_no_gaps,
        a_cancel_reaches_the_owner,
        no_saga_completes_before_its_owner_knows_of_a_cancel,
        lists_come_in_pages,
        only_what_ended_long_ago_is_purged,
        a_purge_of_a_definition_leaves_the_others,
        one_bad_append_among_many_disturbs_nobody,
        any_bytes_are_kept,
        the_first_entry_is_kept,
        every_kind_of_entry_is_kept,
        every_entry_has_its_time,
    );
}

async fn what_is_written_is_read<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    let mut more = append(1, 1, 1, Status::Unwinding);
    more.entries.push(Entry::Unwinding { why: Some("größer".to_owned()) });
    expect(store.append(more.clone()).await, "append");
    for store in [&store, &harness.reopen(&store).await] {
        let record = expect(store.load(SagaId::new(1)).await, "load").unwrap();
        let begun = saga(1, ONE);
        assert_eq!((record.definition, record.version), (begun.definition, begun.version));
        assert_eq!((record.codec.as_str(), record.epoch), (begun.codec, 1));
        assert_eq!((record.status, record.cancel_requested), (Status::Unwinding, false));
        assert_eq!((record.deadline, record.beginning), (begun.deadline, begun.beginning));
        assert_eq!(record.entries, [&begun.entries[..], &more.entries].concat());
    }
    assert!(expect(store.load(SagaId::new(2)).await, "load").is_none());
}

async fn a_create_whose_answer_was_lost<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    expect(store.create(saga(1, ONE)).await, "create it again");
    let conflict = StoreErrorKind::Conflict;
    let other = changed(saga(1, ONE), |saga| saga.beginning.input = b"[]".to_vec());
    refused(store.create(other).await, conflict, "another input");
    refused(store.create(saga(1, TWO)).await, conflict, "another worker");
    let longer = changed(saga(1, ONE), |saga| saga.entries.push(done(0, b"")));
    refused(store.create(longer).await, conflict, "more entries");
    expect(store.append(append(1, 1, 1, Status::Running)).await, "append");
    refused(store.create(saga(1, ONE)).await, conflict, "after it has continued");
}

async fn a_create_of_a_saga_that_its_worker_took_over<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[1]).await;
    harness.advance(LEASE).await;
    assert_eq!(take_over(&store, ONE).await, [(SagaId::new(1), 2)]);
    refused(store.create(saga(1, ONE)).await, StoreErrorKind::Conflict, "it runs under epoch 2");
}

async fn an_append_whose_answer_was_lost<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    for _ in 0..2 {
        let appended = expect(store.append(append(1, 1, 1, Status::Running)).await, "append");
        assert_eq!(appended, Appended::new(false));
    }
    let mut other = append(1, 1, 1, Status::Running);
    other.entries[0] = done(0, b"8");
    refused(store.append(other).await, StoreErrorKind::Conflict, "other content");
    // The last entry too, which ends the saga.
    let mut last = append(1, 1, 2, Status::Completed);
    last.entries = vec![Entry::Completed];
    for _ in 0..2 {
        expect(store.append(last.clone()).await, "the end");
    }
    let record = expect(store.load(SagaId::new(1)).await, "load").unwrap();
    assert_eq!((record.entries.len(), record.status), (3, Status::Completed));
}

async fn a_log_has_no_gaps<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    let gap = store.append(append(1, 1, 2, Status::Running)).await;
    refused(gap, StoreErrorKind::Conflict, "beyond the end");
    let record = expect(store.load(SagaId::new(1)).await, "load").unwrap();
    assert_eq!(record.entries.len(), 1);
}

async fn a_cancel_reaches_the_owner<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    let cancel = async |id| expect(store.request_cancel(SagaId::new(id)).await, "cancel");
    assert!(cancel(1).await);
    assert!(!cancel(2).await);
    let appended = expect(store.append(append(1, 1, 1, Status::Running)).await, "append");
    assert!(appended.cancel_requested);
    let record = expect(store.load(SagaId::new(1)).await, "load").unwrap();
    assert!(record.cancel_requested);
    expect(store.append(append(1, 1, 2, Status::Compensated)).await, "append");
    assert!(!cancel(1).await, "the saga has ended");
}

/// The check is part of the append. An owner past the point of no return completes the saga nevertheless.
async fn no_saga_completes_before_its_owner_knows_of_a_cancel<S: Store<Vec<u8>>>(
    harness: &impl Harness<S>,
) {
    let store = with(harness, &[1, 2, 3]).await;
    for id in [1, 2, 3] {
        assert!(expect(store.request_cancel(SagaId::new(id)).await, "cancel"));
    }
    let end = |id| append(id, 1, 1, Status::Completed);
    for id in [1, 2] {
        let left_out = expect(store.append(end(id)).await, "append");
        assert_eq!(left_out, Appended::unseen_cancel(), "saga {id}");
        let record = expect(store.load(SagaId::new(id)).await, "load").unwrap();
        assert_eq!((record.entries.len(), record.status), (1, Status::Running), "saga {id}");
    }
    let completed = end(1).knowing_cancel(true);
    assert_eq!(expect(store.append(completed.clone()).await, "append"), Appended::new(true));
    assert_eq!(expect(store.append(completed).await, "repeated"), Appended::new(true));
    assert_eq!(expect(store.append(end(1)).await, "repeated"), Appended::new(true));
    // Every other end stands, and the owner is checked first.
    let others = [(2, Status::Compensated), (3, Status::Stuck)];
    for (id, status) in others {
        let appended = expect(store.append(append(id, 1, 1, status)).await, "append");
        assert_eq!(appended, Appended::new(true), "{status:?}");
    }
    let fenced = changed(append(3, 1, 2, Status::Completed), |append| append.epoch = 2);
    refused(store.append(fenced).await, StoreErrorKind::Fenced, "another epoch");
}

async fn lists_come_in_pages<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[4, 2, 3, 1]).await;
    expect(store.append(append(3, 1, 1, Status::Stuck)).await, "append");
    let list = async |status, after: Option<u128>, limit| {
        let found =
            store.list(Page::first(limit).status(status).after(after.map(SagaId::new))).await;
        let found = expect(found, "list").into_iter();
        found.map(|summary| summary.id.get()).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None, 3).await, [1, 2, 3]);
    assert_eq!(list(None, Some(3), 3).await, [4]);
    assert_eq!(list(Some(Status::Stuck), None, 9).await, [3]);
    assert_eq!(list(Some(Status::Running), Some(1), 9).await, [2, 4]);
}

async fn only_what_ended_long_ago_is_purged<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1, 2, 3, 4]).await;
    for id in [1, 2] {
        expect(store.append(append(id, 1, 1, Status::Completed)).await, "append");
    }
    harness.advance(LEASE).await;
    expect(store.append(append(3, 1, 1, Status::Compensated)).await, "append");
    let purge = async |limit| expect(store.purge_sagas(None, LEASE, limit).await, "purge");
    assert_eq!(purge(1).await, 1);
    assert_eq!(purge(9).await, 1);
    assert_eq!(purge(9).await, 0, "the third saga ended too recently");
    harness.advance(LEASE).await;
    assert_eq!(purge(9).await, 1);
    let left = expect(store.list(Page::first(9)).await, "list");
    assert_eq!(left.len(), 1, "an unfinished saga is never purged");
}

async fn a_purge_of_a_definition_leaves_the_others<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1, 2, 3, 4]).await;
    expect(store.create(changed(saga(5, ONE), |saga| saga.version = 4)).await, "create");
    let other = changed(saga(6, ONE), |saga| saga.definition = "refund".to_owned());
    expect(store.create(other).await, "create");
    let ends = [
        (1, Status::Completed),
        (2, Status::Compensated),
        (3, Status::Stuck),
        (5, Status::Completed),
        (6, Status::Completed),
    ];
    for (id, status) in ends {
        expect(store.append(append(id, 1, 1, status)).await, "append");
    }
    let purge = async |limit| expect(store.purge_sagas(Some("order"), LEASE, limit).await, "purge");
    assert_eq!(purge(9).await, 0, "the sagas have just ended");
    harness.advance(LEASE).await;
    assert_eq!(purge(2).await, 2);
    assert_eq!(purge(9).await, 1, "of every version");
    assert_eq!(purge(9).await, 0);
    let left = expect(store.list(Page::first(9)).await, "list");
    let left: Vec<u128> = left.into_iter().map(|summary| summary.id.get()).collect();
    assert_eq!(left, [3, 4, 6], "stuck, unfinished, and of another definition");
    assert!(expect(store.load(SagaId::new(1)).await, "load").is_none());
    // The id can be used again.
    expect(store.renew_worker(ONE, LEASE).await, "renew");
    expect(store.create(saga(1, ONE)).await, "create");
}

async fn one_bad_append_among_many_disturbs_nobody<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
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

async fn any_bytes_are_kept<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let bytes: Vec<u8> = (0..=255).collect();
    let store = with(harness, &[]).await;
    expect(
        store.create(changed(saga(1, ONE), |saga| saga.beginning.input = bytes.clone())).await,
        "create",
    );
    let mut more = append(1, 1, 1, Status::Running);
    let why = Some("'; -- \"{}[]\\ \u{1f680}".to_owned());
    more.entries =
        vec![Entry::Happened { step: 0, output: bytes.clone(), why }, done(u16::MAX, b"")];
    expect(store.append(more.clone()).await, "append");
    let record = expect(harness.reopen(&store).await.load(SagaId::new(1)).await, "load").unwrap();
    assert_eq!(record.beginning.input, bytes);
    assert_eq!(record.entries[1..], more.entries[..]);
}

/// A later release adds the origin of a saga.
async fn the_first_entry_is_kept<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    let text = |text: &str| Some(text.to_owned());
    let begun = |id| {
        changed(saga(id, ONE), |saga| {
            saga.beginning.shape = text("a:c[];b:p[0];");
            saga.beginning.correlation = text("order-7:a.b_c");
            saga.beginning.trace = text("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        })
    };
    expect(store.create(begun(2)).await, "create");
    expect(store.create(begun(2)).await, "create it again");
    let changes: [fn(&mut Beginning<Vec<u8>>); 3] = [
        |beginning| beginning.shape = None,
        |beginning| beginning.correlation = None,
        |beginning| beginning.trace = None,
    ];
    for change in changes {
        let other = changed(begun(2), |saga| change(&mut saga.beginning));
        refused(store.create(other).await, StoreErrorKind::Conflict, "another first entry");
    }
    expect(store.append(append(2, 1, 1, Status::Running)).await, "append");
    harness.advance(LEASE).await;
    expect(store.renew_worker(TWO, LEASE).await, "renew");
    let store = harness.reopen(&store).await;
    let loaded = expect(store.load(SagaId::new(2)).await, "load").unwrap();
    let taken =
        expect(store.take_abandoned(TakeOver::new(TWO, ("order", 3), 9)).await, "take_over");
    let taken = taken.sagas.into_iter().find(|record| record.id == SagaId::new(2)).unwrap();
    for record in [loaded, taken] {
        assert_eq!(record.beginning, begun(2).beginning);
        assert_eq!(record.entries.len(), 2, "positions count from the second entry");
    }
    let record = expect(store.load(SagaId::new(1)).await, "load").unwrap();
    assert_eq!(record.beginning, saga(1, ONE).beginning, "only the input");
}

async fn every_kind_of_entry_is_kept<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    let mut more = append(1, 1, 1, Status::Running);
    for code in 1..=u8::MAX {
        let Some(kind) = EntryKind::from_code(code) else { break };
        for why in [None, Some("why".to_owned())] {
            more.entries.extend(Entry::from_parts(kind, 7, Some(b"out".to_vec()), why));
        }
    }
    expect(store.append(more.clone()).await, "append");
    let record = expect(harness.reopen(&store).await.load(SagaId::new(1)).await, "load").unwrap();
    assert_eq!(record.entries[1..], more.entries[..]);
}

async fn every_entry_has_its_time<S: Store<Vec<u8>>>(harness: &impl Harness<S>) {
    let store = with(harness, &[1]).await;
    let mut position = 1;
    for _ in 0..2 {
        harness.advance(GRAIN).await;
        let mut more = append(1, 1, position, Status::Running);
        more.entries.push(Entry::ActionStarted { step: 1 });
        for _ in 0..2 {
            expect(store.append(more.clone()).await, "append");
            // A repeated append changes no time.
            harness.advance(GRAIN).await;
        }
        position += 2;
    }
    expect(store.renew_worker(ONE, LEASE).await, "renew");
    let store = harness.reopen(&store).await;
    let loaded = expect(store.load(SagaId::new(1)).await, "load").unwrap();
    let taken = expect(store.take_saga(ONE, SagaId::new(1)).await, "take").unwrap();
    for record in [loaded, taken] {
        let created_at = record.created_at.unwrap();
        let times: Vec<Duration> = record.times.iter().map(|at| at.unwrap() - created_at).collect();
        let grains = [0, 1, 1, 4, 4].map(|grains| grains * GRAIN);
        assert_eq!(times, grains);
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
