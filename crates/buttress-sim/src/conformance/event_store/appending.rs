//! Appending batches: their atomicity, the expected version, repeated batches, closed streams.

use buttress_durable::event_store::{
    Append, AppendError, Expected, NewBatch, NewEvent, Store, StreamId, Version,
};
use buttress_durable::outbox::MessageId;

use super::super::{Harness, Transactions, all_of, cases, expect};
use super::{
    INVALID, append, appended, batch, closed, conflict, event, exactly, numbers, order, ordered,
    place, stream,
};

pub(super) async fn all<S: Store + Append<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    cases!(harness:
        events_6_1_a_batch_is_atomic,
        a_roll_back_leaves_nothing,
        a_conflict_leaves_the_transaction_usable,
        events_6_2_a_conflict_says_both_versions,
        events_6_2_one_of_64_writers_wins_each_version,
        events_6_3_the_same_batch_again_has_the_same_place,
        events_6_3_other_content_is_a_conflict,
        events_6_3_a_repeat_without_a_version_is_found_among_the_last,
        events_6_14_a_closed_stream_refuses_events,
        what_no_store_could_hold_is_refused,
        an_operation_that_is_never_polled_has_no_effect,
    );
}

async fn events_6_1_a_batch_is_atomic<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    append(&store, &batch(1, Expected::New, &[1])).await;
    // The transaction gets a conflict midway and is rolled back, so the events before it are not there either.
    let mut tx = harness.begin(&store).await;
    let first = store.append_in(&mut tx, &batch(2, Expected::New, &[2, 3])).await;
    assert_eq!(place(appended(first, "append_in")), (1, 2));
    let wrong = batch(1, Expected::New, &[4]);
    assert_eq!(conflict(store.append_in(&mut tx, &wrong).await, Expected::New, "append_in"), 1);
    harness.roll_back(tx).await;
    // A batch that no store can hold because of its last event leaves nothing of the events before.
    let mut invalid = batch(1, exactly(1), &[5, 6, 7]);
    invalid.events[2].data = vec![0; NewEvent::LARGEST_DATA + 1];
    refuse(store.append_batch(&invalid).await, "append_batch");
    assert_eq!(numbers(&store, 1).await, [1]);
    assert_eq!(numbers(&store, 2).await, [0; 0]);
    assert_eq!(order(&ordered(&store).await), [1]);
}

async fn a_roll_back_leaves_nothing<S: Store + Append<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    let store = harness.fresh().await;
    for _ in 0..2 {
        let mut tx = harness.begin(&store).await;
        let done = store.append_in(&mut tx, &batch(1, Expected::New, &[1, 2])).await;
        assert_eq!(place(appended(done, "append_in")), (1, 2));
        harness.roll_back(tx).await;
        assert_eq!(expect(store.stream_state(&stream(1)).await, "stream_state"), None);
    }
    let mut tx = harness.begin(&store).await;
    appended(store.append_in(&mut tx, &batch(1, Expected::New, &[1])).await, "append_in");
    appended(store.append_in(&mut tx, &batch(2, Expected::New, &[2])).await, "append_in");
    let done = store.append_in(&mut tx, &batch(1, exactly(1), &[3, 4])).await;
    assert_eq!(place(appended(done, "the transaction sees its own events")), (2, 3));
    let seen = store.read_stream_in(&mut tx, &stream(1), Version::new(1), 9).await;
    let seen: Vec<u64> =
        expect(seen, "read_stream_in").events.iter().map(|event| event.version.get()).collect();
    assert_eq!(seen, [2, 3]);
    harness.commit(tx).await;
    let other = harness.reopen(&store).await;
    assert_eq!(numbers(&other, 1).await, [1, 3, 4]);
    assert_eq!(order(&ordered(&other).await), [1, 2, 3, 4]);
}

async fn a_conflict_leaves_the_transaction_usable<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    append(&store, &batch(1, Expected::New, &[1, 2])).await;
    append(&store, &batch(2, Expected::New, &[3])).await;
    expect(store.archive_stream(&stream(2)).await, "archive_stream");
    let mut tx = harness.begin(&store).await;
    let wrong = store.append_in(&mut tx, &batch(1, exactly(1), &[4])).await;
    assert_eq!(conflict(wrong, exactly(1), "append_in"), 2);
    closed(store.append_in(&mut tx, &batch(2, exactly(1), &[4])).await, 2, "append_in");
    let seen = store.read_stream_in(&mut tx, &stream(1), Version::START, 9).await;
    assert_eq!(expect(seen, "read_stream_in").events.len(), 2);
    let right = store.append_in(&mut tx, &batch(1, exactly(2), &[4])).await;
    assert_eq!(place(appended(right, "append_in")), (3, 3));
    harness.commit(tx).await;
    assert_eq!(numbers(&store, 1).await, [1, 2, 4]);
}

async fn events_6_2_a_conflict_says_both_versions<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    append(&store, &batch(1, exactly(0), &[1, 2, 3, 4, 5, 6])).await;
    let expectations =
        [(1, exactly(5), 6), (1, exactly(7), 6), (1, Expected::New, 6), (1, exactly(u64::MAX), 6)];
    let unknown = [(2, exactly(1), 0), (2, Expected::Exists, 0)];
    for (of, expected, actual) in expectations.into_iter().chain(unknown) {
        let result = store.append_batch(&batch(of, expected, &[9])).await;
        assert_eq!(conflict(result, expected, "append_batch"), actual, "{expected:?}");
    }
    for (expected, version, number) in
        [(exactly(6), 7, 7), (Expected::Exists, 8, 8), (Expected::Any, 9, 9)]
    {
        let done = append(&store, &batch(1, expected, &[number])).await;
        assert_eq!(place(done), (version, version), "{expected:?}");
    }
    append(&store, &batch(2, Expected::Any, &[10])).await;
    assert_eq!(numbers(&store, 1).await, (1..10).collect::<Vec<_>>());
}

async fn events_6_2_one_of_64_writers_wins_each_version<S: Store>(harness: &impl Harness<S>) {
    const WRITERS: u32 = 64;
    let store = harness.fresh().await;
    let store = &store;
    let writers = (0..WRITERS).map(|writer| async move {
        let (mut version, mut lost) = (0, 0);
        // Each writer appends twice, and takes the version that a conflict names.
        for number in [writer, writer + WRITERS] {
            loop {
                match store.append_batch(&batch(1, exactly(version), &[number])).await {
                    Ok(done) => {
                        assert_eq!(place(done), (version + 1, version + 1));
                        version += 1;
                        break;
                    }
                    Err(AppendError::Conflict { actual, .. }) => {
                        assert!(actual.get() > version, "{actual} after {version}");
                        version = actual.get();
                        lost += 1;
                    }
                    Err(error) => panic!("append_batch: {error} ({error:?})"),
                }
            }
        }
        lost
    });
    let lost: u32 = all_of(writers).await.into_iter().sum();
    assert!(lost >= WRITERS - 1, "only one writer is the first, {lost} were reported");
    let mut found = numbers(store, 1).await;
    assert_eq!(order(&ordered(store).await), found, "the order of versions");
    found.sort_unstable();
    assert_eq!(found, (0..2 * WRITERS).collect::<Vec<_>>());
}

async fn events_6_3_the_same_batch_again_has_the_same_place<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let first = batch(1, Expected::New, &[1, 2]);
    let second = batch(1, exactly(2), &[3, 4]);
    for _ in 0..2 {
        assert_eq!(place(append(&store, &first).await), (1, 2));
    }
    for _ in 0..2 {
        assert_eq!(place(append(&store, &second).await), (3, 4));
        assert_eq!(place(append(&store, &first).await), (1, 2), "also after the stream has grown");
    }
    // In a transaction, of itself and of a committed one.
    let mut tx = harness.begin(&store).await;
    let third = batch(1, exactly(4), &[5]);
    for (batch, place_of) in [(&third, (5, 5)), (&third, (5, 5)), (&second, (3, 4))] {
        let done = store.append_in(&mut tx, batch).await;
        assert_eq!(place(appended(done, "append_in")), place_of);
    }
    harness.commit(tx).await;
    assert_eq!(numbers(&store, 1).await, [1, 2, 3, 4, 5]);
    assert_eq!(order(&ordered(&store).await), [1, 2, 3, 4, 5]);
}

async fn events_6_3_other_content_is_a_conflict<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    append(&store, &batch(1, Expected::New, &[1, 2])).await;
    append(&store, &batch(1, exactly(2), &[3])).await;
    let changed = |change: fn(&mut NewEvent)| {
        let mut changed = batch(1, Expected::New, &[1, 2]);
        change(&mut changed.events[1]);
        changed
    };
    let others = [
        changed(|event| event.data.push(0)),
        changed(|event| event.kind.push('x')),
        changed(|event| event.schema += 1),
        changed(|event| event.headers.push(("a".to_owned(), "b".to_owned()))),
        changed(|event| event.id = MessageId::new(99)),
        batch(1, Expected::New, &[1]),
        batch(1, Expected::New, &[1, 2, 4]),
        batch(1, exactly(1), &[1, 2]),
        batch(1, Expected::New, &[2, 1]),
    ];
    for other in &others[..5] {
        let result = store.append_batch(other).await;
        assert_eq!(conflict(result, Expected::New, "other content"), 3, "{other:?}");
    }
    // A shorter batch is a part of the first one, and so its events are there already.
    assert_eq!(place(append(&store, &others[5]).await), (1, 1));
    for other in &others[6..] {
        let result = store.append_batch(other).await;
        assert_eq!(conflict(result, other.expected, "other events"), 3, "{other:?}");
    }
    assert_eq!(numbers(&store, 1).await, [1, 2, 3]);
}

async fn events_6_3_a_repeat_without_a_version_is_found_among_the_last<
    S: Store + Append<Tx>,
    Tx,
>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    append(&store, &batch(1, Expected::New, &[1])).await;
    for expected in [Expected::Any, Expected::Exists] {
        for _ in 0..2 {
            assert_eq!(place(append(&store, &batch(1, expected, &[2, 3])).await), (2, 3));
        }
    }
    append(&store, &batch(1, exactly(3), &(4..100).collect::<Vec<_>>())).await;
    assert_eq!(place(append(&store, &batch(1, Expected::Any, &[2, 3])).await), (2, 3));
    let mut tx = harness.begin(&store).await;
    let done = store.append_in(&mut tx, &batch(1, Expected::Any, &[99])).await;
    assert_eq!(place(appended(done, "append_in")), (99, 99));
    harness.commit(tx).await;
    assert_eq!(numbers(&store, 1).await, (1..100).collect::<Vec<_>>());
}

async fn events_6_14_a_closed_stream_refuses_events<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    assert_eq!(expect(store.archive_stream(&stream(1)).await, "archive_stream"), None);
    append(&store, &batch(1, Expected::New, &[1, 2])).await;
    for _ in 0..2 {
        let archived = expect(store.archive_stream(&stream(1)).await, "archive_stream");
        assert_eq!(archived, Some(Version::new(2)));
    }
    let state = expect(store.stream_state(&stream(1)).await, "stream_state").unwrap();
    assert_eq!((state.version.get(), state.is_closed), (2, true));
    for expected in [exactly(2), exactly(1), Expected::New, Expected::Exists, Expected::Any] {
        closed(store.append_batch(&batch(1, expected, &[3])).await, 1, "append_batch");
        let mut tx = harness.begin(&store).await;
        closed(store.append_in(&mut tx, &batch(1, expected, &[3])).await, 1, "append_in");
        harness.commit(tx).await;
    }
    // A batch of before is still recognised, and the events can be read.
    assert_eq!(place(append(&store, &batch(1, Expected::New, &[1, 2])).await), (1, 2));
    assert_eq!(numbers(&store, 1).await, [1, 2]);
    append(&store, &batch(2, Expected::New, &[3])).await;
    assert_eq!(order(&ordered(&store).await), [1, 2, 3]);
}

async fn what_no_store_could_hold_is_refused<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let of = |kind: &str, id: &str, events| {
        NewBatch::new(StreamId::new(kind, id), Expected::Any, events)
    };
    let with = |change: fn(&mut NewEvent)| {
        let mut event = event(1);
        change(&mut event);
        vec![event]
    };
    let long = "k".repeat(StreamId::LONGEST + 1);
    let wrong = [
        of("", "1", vec![event(1)]),
        of("order", "", vec![event(1)]),
        of(&long, "1", vec![event(1)]),
        of("order", &long, vec![event(1)]),
        of("order", "a\0b", vec![event(1)]),
        of("order", "1", Vec::new()),
        of("order", "1", vec![event(1), event(1)]),
        of("order", "1", (0..=NewBatch::MOST_EVENTS as u32).map(event).collect()),
        of("order", "1", with(|event| event.kind.clear())),
        of("order", "1", with(|event| event.kind = "k".repeat(NewEvent::LONGEST_KIND + 1))),
        of("order", "1", with(|event| event.kind.push('\0'))),
        of("order", "1", with(|event| event.headers = vec![("a\0".into(), String::new())])),
        of(
            "order",
            "1",
            with(|event| {
                event.headers = vec![("a".into(), "b".repeat(NewEvent::LARGEST_HEADERS))];
            }),
        ),
        of(
            "order",
            "1",
            (0..9)
                .map(|number| {
                    let mut event = event(number);
                    event.data = vec![0; NewEvent::LARGEST_DATA];
                    event
                })
                .collect(),
        ),
    ];
    let mut tx = harness.begin(&store).await;
    for batch in &wrong {
        refuse(store.append_in(&mut tx, batch).await, "append_in");
    }
    // The statements had no effect, so the transaction continues.
    let longest = "k".repeat(StreamId::LONGEST);
    let events = with(|event| {
        event.kind = "k".repeat(NewEvent::LONGEST_KIND);
        event.data = vec![7; NewEvent::LARGEST_DATA];
        event.headers = vec![("größe".into(), "'; -- \"{}[]".into()), ("größe".into(), "2".into())];
        event.schema = u32::MAX;
    });
    let largest = of(&longest, &longest, events);
    appended(store.append_in(&mut tx, &largest).await, "append_in");
    let many = of("many", "1", (0..NewBatch::MOST_EVENTS as u32).map(event).collect());
    appended(store.append_in(&mut tx, &many).await, "append_in");
    harness.commit(tx).await;
    for batch in &wrong {
        refuse(store.append_batch(batch).await, "append_batch");
    }
    let read = async |stream: &StreamId| {
        let page = expect(store.read_stream(stream, Version::START, 9999).await, "read_stream");
        assert!(page.is_end);
        page.events
    };
    let found = read(&largest.stream).await;
    assert!(found.len() == 1 && found[0].is(&largest.events[0]), "the same event comes back");
    assert_eq!(read(&many.stream).await.len(), NewBatch::MOST_EVENTS);
}

fn refuse(result: Result<impl std::fmt::Debug, AppendError>, what: &str) {
    match result {
        Err(AppendError::Store(error)) if error.kind() == INVALID => {}
        other => panic!("{what}: wanted invalid, got {other:?}"),
    }
}

async fn an_operation_that_is_never_polled_has_no_effect<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    drop(store.append_batch(&batch(1, Expected::New, &[1])));
    let mut tx = harness.begin(&store).await;
    drop(store.append_in(&mut tx, &batch(1, Expected::New, &[1])));
    harness.commit(tx).await;
    assert_eq!(numbers(&store, 1).await, [0; 0]);
    append(&store, &batch(1, Expected::New, &[2])).await;
    drop(store.archive_stream(&stream(1)));
    assert_eq!(place(append(&store, &batch(1, exactly(1), &[3])).await), (2, 2));
}
