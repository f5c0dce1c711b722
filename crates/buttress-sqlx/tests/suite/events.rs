//! Events in tables: rows that cannot be read, clocks that are set back, sizes of pages.

use std::time::Duration;

use buttress::{Clock, StoreErrorKind};
use buttress_durable::event_store::{
    Advance, Append, AppendError, Batch, Config, Expected, Filter, Log, NewBatch, NewEvent,
    OnFailure, Position, Projection, ProjectionClaim, ProjectorId, Store, StreamId, Version,
};
use buttress_durable::outbox::MessageId;
use tower::{BoxError, service_fn};

use crate::db::{Db, HOUR, NANO, on_each_database};

const LEASE: Duration = Duration::from_secs(15);

on_each_database! {
    events_6_1_a_batch_that_the_database_refuses_midway_leaves_nothing
    events_6_8_a_lease_ends_after_its_length_although_the_clock_was_set_back
    events_6_8_a_damaged_projection_is_named_and_hides_no_other
    events_6_9_an_event_that_cannot_be_read_is_named
    a_damaged_stream_is_named_and_hides_no_other
    a_filter_that_matches_nothing_examines_a_bounded_part
    a_dropped_append_leaves_the_store_usable
}

pub(crate) fn order(number: u32) -> StreamId {
    StreamId::new("order", number.to_string())
}

pub(crate) fn event(id: u128) -> NewEvent {
    NewEvent::new(MessageId::new(id), "order.placed", id.to_be_bytes())
}

/// Waits until `is_true`, at most a minute.
async fn until(is_true: impl Fn() -> bool) {
    let clock = Clock::default();
    let waiting = async {
        while !is_true() {
            clock.sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("it does not happen");
}

async fn append<D: Db>(db: &D, of: u32, ids: impl IntoIterator<Item = u128>) {
    let events = ids.into_iter().map(event).collect();
    db.store().append_batch(&NewBatch::new(order(of), Expected::Any, events)).await.unwrap();
}

async fn events_6_1_a_batch_that_the_database_refuses_midway_leaves_nothing<D: Db>(db: D) {
    for statement in D::refuse("buttress_event", "INSERT", "NEW.version = 200") {
        db.execute(&statement).await;
    }
    append(&db, 7, 1..=2).await;
    let batch = |of, expected| {
        NewBatch::new(order(of), expected, (1000 * u128::from(of)..).take(300).map(event).collect())
    };
    let (new, old) = (batch(8, Expected::New), batch(7, Expected::Any));
    // Together with appends that the database accepts.
    let fine = batch(9, Expected::New);
    let fine = NewBatch::new(order(9), fine.expected, fine.events[..100].to_vec());
    let store = db.store();
    let done =
        tokio::join!(store.append_batch(&new), store.append_batch(&fine), store.append_batch(&old));
    assert!(done.0.is_err() && done.2.is_err(), "{done:?}");
    assert_eq!(done.1.unwrap().last.get(), 100);
    assert_eq!(store.stream_state(&order(8)).await.unwrap(), None);
    assert_eq!(store.stream_state(&order(7)).await.unwrap().unwrap().version.get(), 2);
    let page = store.read_all(Position::START, &Filter::all(), 999).await.unwrap();
    assert_eq!(page.events.len(), 102);
    // Positions have no gap either.
    assert_eq!(page.through.get(), 102);
    let mut tx = db.begin().await;
    assert!(store.append_in(&mut tx, &new).await.is_err());
    db.rollback(tx).await;
    assert_eq!(store.stream_state(&order(8)).await.unwrap(), None);
}

async fn events_6_8_a_lease_ends_after_its_length_although_the_clock_was_set_back<D: Db>(db: D) {
    let (store, other) = (db.store(), db.another().await);
    let claim = |worker| ProjectionClaim::new("list", ProjectorId::new(worker), LEASE);
    let first = store.lease_projection(claim(1)).await.unwrap().unwrap();
    db.time().set_skew(-HOUR);
    assert_eq!(other.lease_projection(claim(2)).await.unwrap(), None);
    assert!(store.projections().await.unwrap()[0].is_leased);
    db.time().advance(LEASE - NANO);
    assert_eq!(other.lease_projection(claim(2)).await.unwrap(), None);
    db.time().advance(NANO);
    assert!(!store.projections().await.unwrap()[0].is_leased);
    let taken = other.lease_projection(claim(2)).await.unwrap().unwrap();
    assert_eq!(taken.lease.epoch, first.lease.epoch + 1);
}

async fn events_6_8_a_damaged_projection_is_named_and_hides_no_other<D: Db>(db: D) {
    let store = db.store();
    let claim = |name| ProjectionClaim::new(name, ProjectorId::new(1), LEASE);
    for name in ["list", "totals"] {
        store.lease_projection(claim(name)).await.unwrap().unwrap();
    }
    let damage = "UPDATE {s}buttress_event_projection SET epoch = 9223372036854775807, checkpoint = -5 \
                  WHERE name = 'list'";
    assert_eq!(db.execute(damage).await, 1);
    let error = store.lease_projection(claim("list")).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    assert!(error.to_string().contains("projection list"), "{error}");
    let leased = store.lease_projection(claim("totals")).await.unwrap().unwrap();
    let moved = Advance::new(leased.lease, Position::START, Position::new(3));
    store.advance_projection(&moved).await.unwrap();
    let states = store.projections().await.unwrap();
    assert_eq!(states.len(), 2);
    assert_eq!((states[0].checkpoint.get(), states[1].checkpoint.get()), (0, 3));
    assert!(store.remove_projection("list").await.unwrap(), "an operator can remove it");
    assert_eq!(store.lease_projection(claim("list")).await.unwrap().unwrap().lease.epoch, 1);
}

async fn events_6_9_an_event_that_cannot_be_read_is_named<D: Db>(db: D) {
    let store = db.store();
    append(&db, 7, 1..=5).await;
    append(&db, 8, 6..=7).await;
    let id = D::id_literal(4);
    let damage = format!("UPDATE {{s}}buttress_event SET headers = data WHERE id = {id}");
    assert_eq!(db.execute(&damage).await, 1);
    let page = async |after| store.read_all(Position::new(after), &Filter::all(), 100).await;
    let first = page(0).await.unwrap();
    assert_eq!((first.events.len(), first.through.get()), (3, 3), "those before are a page");
    let error = page(3).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    for part in ["position 4", "order/7", "order.placed", "headers"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(page(4).await.unwrap().events.len(), 3);
    let error = store.read_stream(&order(7), Version::START, 9).await.unwrap_err();
    assert!(error.to_string().contains("order/7, version 4"), "{error}");
    let read = store.read_stream(&order(8), Version::START, 9).await.unwrap();
    assert_eq!(read.events.len(), 2);
    // An append that has to look at the event fails, and others do not.
    let repeated = NewBatch::new(order(7), Expected::Exactly(Version::new(3)), vec![event(4)]);
    let error = store.append_batch(&repeated).await.unwrap_err();
    assert!(format!("{error:?}").contains("version 4"), "{error:?}");
    // A projection stops at it, or goes past it.
    let log = Log::new(store.clone());
    let project = |name, policy| {
        let handler = service_fn(|batch: Batch<()>| std::future::ready(Ok::<_, BoxError>(batch)));
        let config = Config::new().on_failure(policy);
        Projection::new(name, &log, handler, config).unwrap().spawn()
    };
    let stopping = project("stopping", OnFailure::Stop);
    until(|| stopping.stopped().is_some()).await;
    let stopped = stopping.stopped().unwrap();
    assert_eq!((stopped.position.get(), stopped.version.get()), (4, 4));
    assert_eq!((stopped.stream, &*stopped.kind), (order(7), "order.placed"));
    assert!(stopped.error.contains("headers"), "{}", stopped.error);
    let skipping = project("skipping", OnFailure::Skip);
    until(|| skipping.stats().checkpoint == 7).await;
    assert_eq!((skipping.stats().skipped, skipping.stats().handled), (1, 6));
    stopping.shut_down().await;
    skipping.shut_down().await;
    // Another batch at its place is a conflict: the event need not be read.
    let other = NewBatch::new(order(7), Expected::Exactly(Version::new(3)), vec![event(44)]);
    let error = store.append_batch(&other).await.unwrap_err();
    assert!(matches!(error, AppendError::Conflict { .. }), "{error:?}");
    append(&db, 7, [9]).await;
}

async fn a_damaged_stream_is_named_and_hides_no_other<D: Db>(db: D) {
    append(&db, 7, 1..=2).await;
    append(&db, 8, 3..=3).await;
    for damage in [-1, 0, 1, i64::MAX] {
        let damage = format!(
            "UPDATE {{s}}buttress_event_stream SET version = {damage} WHERE stream_id = '7'"
        );
        assert_eq!(db.execute(&damage).await, 1);
        let batch = NewBatch::new(order(7), Expected::Any, vec![event(9)]);
        let error = db.store().append_batch(&batch).await.unwrap_err();
        assert!(format!("{error:?}").contains("stream order/7: its version"), "{error:?}");
        // The appends that the store writes together with it.
        let others =
            (10..30).map(|of| NewBatch::new(order(of), Expected::Any, vec![event(of.into())]));
        let others = others.map(|batch| {
            let store = db.store().clone();
            tokio::spawn(async move { store.append_batch(&batch).await.map(drop) })
        });
        let damaged = db.store().append_batch(&batch);
        let others: Vec<_> = others.collect();
        assert!(damaged.await.is_err());
        for other in others {
            other.await.unwrap().unwrap();
        }
        if damage.ends_with("version = 1 WHERE stream_id = '7'") {
            continue;
        }
        let error = db.store().stream_state(&order(7)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    }
    append(&db, 8, [4]).await;
    let page = db.store().read_all(Position::START, &Filter::all(), 99).await.unwrap();
    assert_eq!(page.events.len(), 24);
}

async fn a_filter_that_matches_nothing_examines_a_bounded_part<D: Db>(db: D) {
    let store = db.store();
    for batch in 0..30 {
        append(&db, batch, (0..1000).map(|n| u128::from(batch) * 1000 + n + 1)).await;
    }
    let mut last = 0;
    // Gives positions to all of them.
    while last < 30_000 {
        let page = store.read_all(Position::new(last), &Filter::all(), 10_000).await.unwrap();
        assert!(page.through.get() > last, "{last}");
        last = page.through.get();
    }
    let none = Filter::all().kind("order.paid");
    let page = store.read_all(Position::START, &none, 10).await.unwrap();
    assert_eq!((page.events.len(), page.through.get(), page.is_end), (0, 20_000, false));
    let page = store.read_all(page.through, &none, 10).await.unwrap();
    assert_eq!((page.events.len(), page.through.get()), (0, 30_000));
    let page = store.read_all(page.through, &none, 10).await.unwrap();
    assert!(page.is_end);
}

async fn a_dropped_append_leaves_the_store_usable<D: Db>(db: D) {
    for number in 1..=30 {
        let batch = NewBatch::new(order(number), Expected::New, vec![event(number.into())]);
        let store = db.store().clone();
        let appending = tokio::spawn(async move { store.append_batch(&batch).await.map(drop) });
        for _ in 0..number {
            tokio::task::yield_now().await;
        }
        appending.abort();
        let _aborted = appending.await;
        // It was done completely or not at all, so the same batch can be appended again.
        let batch = NewBatch::new(order(number), Expected::New, vec![event(number.into())]);
        let again = db.store().append_batch(&batch).await.unwrap();
        assert_eq!((again.first.get(), again.last.get()), (1, 1));
    }
    let page = db.store().read_all(Position::START, &Filter::all(), 100).await.unwrap();
    assert_eq!((page.events.len(), page.through.get()), (30, 30));
}
