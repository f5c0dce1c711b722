//! Reading streams and their state, and snapshots.

use buttress_durable::Answer;
use buttress_durable::event_store::{
    Append, Expected, Filter, NewBatch, NewEvent, Page, Position, Snapshot, Store, StreamId,
    StreamPage, Version,
};

use super::super::{Harness, Transactions, cases, expect, refused};
use super::{INVALID, append, batch, event, exactly, number, numbers, stream};

pub(super) async fn all<S: Store + Append<Tx>, Tx>(harness: &impl Transactions<S, Tx>) {
    cases!(harness:
        a_stream_is_read_from_any_version,
        what_is_appended_is_read,
        a_filter_leaves_events_out_and_no_position,
        a_page_of_large_events_ends_at_its_bound,
        a_page_of_a_stream_ends_at_its_bound,
        a_repeat_of_the_largest_batch_has_its_place,
        a_snapshot_is_replaced_by_a_later_one,
        snapshots_of_other_streams_stay,
        snapshots_can_be_thrown_away,
    );
}

async fn a_stream_is_read_from_any_version<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    append(&store, &batch(1, Expected::New, &[1, 2, 3, 4, 5])).await;
    append(&store, &batch(2, Expected::New, &[6])).await;
    let read = async |of, after, limit| -> Vec<u32> {
        let events = store.read_stream(&stream(of), Version::new(after), limit).await;
        expect(events, "read_stream").events.iter().map(|event| number(&event.data)).collect()
    };
    assert_eq!(read(1, 0, 3).await, [1, 2, 3]);
    assert_eq!(read(1, 3, 3).await, [4, 5]);
    assert_eq!(read(1, 5, 3).await, [0; 0]);
    assert_eq!(read(1, u64::MAX, 3).await, [0; 0]);
    assert_eq!(read(3, 0, 3).await, [0; 0]);
    assert_eq!(read(1, 0, 0).await, [0; 0]);
    for wrong in [StreamId::new("", "1"), StreamId::new("order", "\0")] {
        refused(store.read_stream(&wrong, Version::START, 1).await, INVALID, "read_stream");
        refused(store.stream_state(&wrong).await, INVALID, "stream_state");
        refused(store.archive_stream(&wrong).await, INVALID, "archive_stream");
        refused(store.load_snapshot(&wrong).await, INVALID, "load_snapshot");
    }
    // The id and the kind of a stream are two texts.
    append(&store, &batch(1, exactly(5), &[7])).await;
    let other = StreamId::new("order/1", "1");
    assert_eq!(expect(store.stream_state(&other).await, "stream_state"), None);
}

async fn what_is_appended_is_read<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let mut written = batch(1, Expected::New, &[1, 2]);
    written.events[0] = event(1).schema(7).header("größe", "'; -- \"{}[]").header("größe", "2");
    written.events[1].data.clear();
    append(&store, &written).await;
    let store = harness.reopen(&store).await;
    let found = expect(store.read_stream(&stream(1), Version::START, 9).await, "read_stream");
    let found = found.events;
    let page = expect(store.read_all(Position::START, &Filter::all(), 9).await, "read_all");
    assert_eq!(page.through.get(), 2);
    for (at, event) in written.events.iter().enumerate() {
        assert!(found[at].is(event), "{found:?}");
        assert_eq!(page.events[at].event, found[at], "both ways of reading");
        assert_eq!(page.events[at].position.get(), at as u64 + 1);
    }
    assert!(!found[0].recorded_at.is_zero());
    assert_eq!(found[0].recorded_at, found[1].recorded_at, "one batch has one time");
}

async fn a_filter_leaves_events_out_and_no_position<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    append(&store, &batch(1, Expected::New, &[1, 2, 3])).await;
    let mut other = batch(1, Expected::New, &[4, 5, 6]);
    other.stream = StreamId::new("bill", "1");
    append(&store, &other).await;
    let read = async |after, filter: Filter, limit| {
        let page = expect(store.read_all(Position::new(after), &filter, limit).await, "read_all");
        let found: Vec<u32> = page.events.iter().map(|one| number(&one.event.data)).collect();
        (found, page.through.get())
    };
    let even = || Filter::all().kind("order.even");
    assert_eq!(read(0, even(), 9).await, (vec![2, 4, 6], 6));
    assert_eq!(read(0, even(), 2).await, (vec![2, 4], 4));
    assert_eq!(read(4, even().kind("order.odd"), 9).await, (vec![5, 6], 6));
    assert_eq!(read(0, Filter::all().stream("bill"), 9).await, (vec![4, 5, 6], 6));
    assert_eq!(read(0, even().stream("bill"), 9).await, (vec![4, 6], 6));
    assert_eq!(read(0, Filter::all().stream("none"), 9).await, (vec![], 6));
    assert_eq!(read(6, Filter::all(), 9).await, (vec![], 6));
    assert_eq!(read(9, Filter::all(), 9).await, (vec![], 9), "never before its start");
    assert_eq!(read(u64::MAX, Filter::all(), 9).await, (vec![], u64::MAX), "of a user");
    for filter in [even().kind("a\0b"), even().stream(""), even().kind("k".repeat(257))] {
        refused(store.read_all(Position::START, &filter, 9).await, INVALID, "a filter");
    }
    for (after, limit, is_end) in [(0, 9, true), (0, 5, false), (4, 2, true), (6, 9, true)] {
        let mut page = store.read_all(Position::new(after), &Filter::all(), limit).await;
        // Some stores know the end only with the next page.
        if is_end {
            let last = expect(page, "read_all").through;
            page = store.read_all(last, &Filter::all(), limit).await;
        }
        assert_eq!(expect(page, "read_all").is_end, is_end, "after {after}, limit {limit}");
    }
    assert_eq!(expect(store.event_stats().await, "event_stats").last, 6);
    assert_eq!(numbers(&store, 1).await, [1, 2, 3]);
}

async fn a_page_of_large_events_ends_at_its_bound<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let read = async |after, filter: Filter, limit| {
        let page = expect(store.read_all(Position::new(after), &filter, limit).await, "read_all");
        let found: Vec<u64> = page.events.iter().map(|one| one.position.get()).collect();
        (found, page.through.get())
    };
    let one = PAGE;
    for number in 1..=2 * one as u32 {
        let batch = NewBatch::new(stream(1), Expected::Any, vec![large(number)]);
        append(&store, &batch).await;
    }
    append(&store, &batch(2, Expected::New, &[1000])).await;
    let last = 2 * one + 1;
    assert_eq!(read(0, Filter::all(), 100).await, ((1..=one).collect(), one));
    assert_eq!(read(one, Filter::all(), 100).await, ((one + 1..=2 * one).collect(), 2 * one));
    assert_eq!(read(2 * one, Filter::all(), 100).await, (vec![last], last));
    assert_eq!(read(0, Filter::all(), 3).await, (vec![1, 2, 3], 3), "the bound of events");
    // Events that a filter leaves out do not count.
    let even = Filter::all().kind("order.even");
    let found = (1..=one).map(|number| 2 * number).collect();
    assert_eq!(read(0, even, 100).await, (found, 2 * one));
}

/// The largest events that reach the bound of a page.
const PAGE: u64 = Page::LARGEST.div_ceil(NewEvent::LARGEST_DATA + NewEvent::LARGEST_HEADERS) as u64;

/// Returns the largest event.
fn large(number: u32) -> NewEvent {
    let mut event = event(number).header("h", "h".repeat(NewEvent::LARGEST_HEADERS - 1));
    event.data = vec![b'x'; NewEvent::LARGEST_DATA];
    event
}

async fn a_page_of_a_stream_ends_at_its_bound<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    let seen = |page: Answer<StreamPage>| {
        let page = expect(page, "read_stream");
        let found: Vec<u64> = page.events.iter().map(|event| event.version.get()).collect();
        (found, page.is_end)
    };
    let read = async |after: u64, limit| {
        seen(store.read_stream(&stream(1), Version::new(after), limit).await)
    };
    let write = |number: u32| NewBatch::new(stream(1), Expected::Any, vec![large(number)]);
    for number in 1..=PAGE as u32 {
        append(&store, &write(number)).await;
        // Another stream does not count.
        append(&store, &NewBatch::new(stream(2), Expected::Any, vec![large(1000 + number)])).await;
    }
    let all = || (1..=PAGE).collect::<Vec<_>>();
    // The store need not know that nothing follows the event that reaches the bound.
    assert_eq!(read(0, 100).await.0, all());
    assert_eq!(read(PAGE, 100).await, (vec![], true));
    for number in PAGE as u32 + 1..=2 * PAGE as u32 {
        append(&store, &write(number)).await;
    }
    append(&store, &batch(1, exactly(2 * PAGE), &[500])).await;
    assert_eq!(read(0, 100).await, (all(), false));
    assert_eq!(read(PAGE, 100).await, ((PAGE + 1..=2 * PAGE).collect(), false));
    assert_eq!(read(2 * PAGE, 100).await, (vec![2 * PAGE + 1], true));
    assert_eq!(read(1, 100).await, ((2..=PAGE + 1).collect(), false));
    assert_eq!(read(0, 3).await, (vec![1, 2, 3], false), "the bound of events");
    assert_eq!(read(2 * PAGE, 0).await.0, [0; 0]);
    // The events that a transaction has appended count too.
    let mut tx = harness.begin(&store).await;
    for number in [600, 602] {
        super::appended(store.append_in(&mut tx, &write(number)).await, "append_in");
    }
    let last = 2 * PAGE + 3;
    for (after, expected) in [
        (0, (all(), false)),
        (PAGE + 1, ((PAGE + 2..last).collect(), false)),
        (PAGE + 3, ((PAGE + 4..=last).collect(), true)),
        (last - 1, (vec![last], true)),
    ] {
        let page = store.read_stream_in(&mut tx, &stream(1), Version::new(after), 100).await;
        assert_eq!(seen(page), expected, "after {after}");
    }
    harness.roll_back(tx).await;
}

async fn a_repeat_of_the_largest_batch_has_its_place<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    let many = NewBatch::MOST_EVENTS as u32;
    // A store may need more bytes for headers than their names and values have.
    let with_headers = |number| (0..4).fold(event(number), |event, _| event.header("", ""));
    let mut events: Vec<NewEvent> = (1..=many).map(with_headers).collect();
    let each = NewBatch::LARGEST / events.len();
    for event in &mut events {
        event.data = vec![b'x'; each];
    }
    events[0].data = vec![b'x'; NewBatch::LARGEST - each * (events.len() - 1)];
    for expected in [Expected::New, Expected::Any] {
        let largest = NewBatch::new(stream(1), expected, events.clone());
        for round in ["first", "second"] {
            let appended = append(&store, &largest).await;
            assert_eq!(
                super::place(appended),
                (1, u64::from(many)),
                "{round} append, {expected:?}"
            );
        }
        append(&store, &batch(2, Expected::Any, &[5000])).await;
    }
    let mut pages = (0, Version::START);
    loop {
        let page = store.read_stream(&stream(1), pages.1, 9999).await;
        let page = expect(page, "read_stream");
        pages =
            (pages.0 + page.events.len(), page.events.last().map_or(pages.1, |one| one.version));
        if page.is_end {
            break;
        }
    }
    assert_eq!(pages.0, many as usize, "each event once");
}

fn snapshot(of: u32, version: u64, schema: u32) -> Snapshot {
    let data = format!("{version} of {schema}").into_bytes();
    Snapshot::new(stream(of), Version::new(version), schema, data)
}

async fn a_snapshot_is_replaced_by_a_later_one<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    assert_eq!(expect(store.load_snapshot(&stream(1)).await, "load_snapshot"), None);
    drop(store.save_snapshot(&snapshot(1, 1, 1)));
    assert_eq!(expect(store.load_snapshot(&stream(1)).await, "load_snapshot"), None);
    for (saved, kept) in [
        ((100, 1), (100, 1)),
        ((100, 1), (100, 1)),
        ((50, 1), (100, 1)),
        ((200, 1), (200, 1)),
        ((50, 2), (50, 2)),
        ((60, 1), (60, 1)),
    ] {
        expect(store.save_snapshot(&snapshot(1, saved.0, saved.1)).await, "save_snapshot");
        let found = expect(store.load_snapshot(&stream(1)).await, "load_snapshot");
        assert_eq!(found, Some(snapshot(1, kept.0, kept.1)), "after {saved:?}");
    }
    let mut tx = harness.begin(&store).await;
    let found = store.load_snapshot_in(&mut tx, &stream(1)).await;
    assert_eq!(expect(found, "load_snapshot_in"), Some(snapshot(1, 60, 1)));
    harness.roll_back(tx).await;
    let large = Snapshot::new(stream(1), Version::new(70), 1, vec![0; Snapshot::LARGEST + 1]);
    refused(store.save_snapshot(&large).await, INVALID, "save_snapshot");
}

async fn snapshots_of_other_streams_stay<S: Store + Append<Tx>, Tx>(
    harness: &impl Transactions<S, Tx>,
) {
    let store = harness.fresh().await;
    // The same id in two kinds, and the same kind with two ids.
    let streams = [stream(1), stream(2), StreamId::new("bill", "1")];
    let of = |number: usize, version: u64| {
        let data = format!("{number} at {version}").into_bytes();
        Snapshot::new(streams[number].clone(), Version::new(version), 1, data)
    };
    let all = async || {
        let mut found = Vec::new();
        for stream in &streams {
            found.push(expect(store.load_snapshot(stream).await, "load_snapshot"));
        }
        found
    };
    for number in 0..3 {
        expect(store.save_snapshot(&of(number, 1)).await, "save_snapshot");
    }
    assert_eq!(all().await, [Some(of(0, 1)), Some(of(1, 1)), Some(of(2, 1))]);
    expect(store.save_snapshot(&of(0, 5)).await, "save_snapshot");
    assert_eq!(all().await, [Some(of(0, 5)), Some(of(1, 1)), Some(of(2, 1))]);
    assert_eq!(expect(store.purge_snapshots("bill", 9).await, "purge"), 1);
    assert_eq!(all().await, [Some(of(0, 5)), Some(of(1, 1)), None]);
    let mut tx = harness.begin(&store).await;
    for (number, version) in [(0, 5), (1, 1)] {
        let found = store.load_snapshot_in(&mut tx, &streams[number]).await;
        assert_eq!(expect(found, "load_snapshot_in"), Some(of(number, version)));
    }
    harness.roll_back(tx).await;
}

async fn snapshots_can_be_thrown_away<S: Store>(harness: &impl Harness<S>) {
    let store = harness.fresh().await;
    append(&store, &batch(1, Expected::New, &[1])).await;
    for of in 1..=3 {
        expect(store.save_snapshot(&snapshot(of, 1, 1)).await, "save_snapshot");
    }
    let purge = async |kind, limit| expect(store.purge_snapshots(kind, limit).await, "purge");
    assert_eq!(purge("bill", 9).await, 0);
    assert_eq!(purge("order", 2).await, 2);
    assert_eq!(purge("order", 9).await, 1);
    assert_eq!(purge("order", 9).await, 0);
    for of in 1..=3 {
        assert_eq!(expect(store.load_snapshot(&stream(of)).await, "load_snapshot"), None);
    }
    assert_eq!(numbers(&store, 1).await, [1], "the events say the same");
}
