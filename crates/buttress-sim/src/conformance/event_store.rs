//! Cases for stores of events.

mod appending;
mod leases;
mod order;
mod overlapping;
mod reading;

use std::time::Duration;

use buttress::StoreErrorKind;
use buttress_durable::event_store::{
    Append, AppendError, Appended, Checkpoint, Expected, Filter, NewBatch, NewEvent, Ordered,
    Position, Store, StreamId, Version,
};
use buttress_durable::outbox::MessageId;

use super::{Transactions, expect};

const LEASE: Duration = Duration::from_secs(15);
const FENCED: StoreErrorKind = StoreErrorKind::Fenced;
const CONFLICT: StoreErrorKind = StoreErrorKind::Conflict;
const INVALID: StoreErrorKind = StoreErrorKind::Invalid;

/// Runs every case that any store passes.
pub async fn all<S, Tx, H>(harness: &H)
where
    S: Store + Append<Tx> + Checkpoint<Tx>,
    H: Transactions<S, Tx>,
{
    appending::all(harness).await;
    reading::all(harness).await;
    order::all(harness).await;
    leases::all(harness).await;
}

/// Runs the cases for stores whose writing transactions overlap. SQLite's do not.
pub async fn overlapping<S, Tx, H>(harness: &H)
where
    S: Store + Append<Tx> + Checkpoint<Tx>,
    H: Transactions<S, Tx>,
{
    overlapping::all(harness).await;
}

fn stream(number: u32) -> StreamId {
    StreamId::new("order", number.to_string())
}

/// Returns an event whose id and data are its number.
fn event(number: u32) -> NewEvent {
    let kind = if number.is_multiple_of(2) { "order.even" } else { "order.odd" };
    NewEvent::new(MessageId::new(u128::from(number) << 64 | 1), kind, number.to_be_bytes())
}

/// Returns a batch of the events with these numbers.
fn batch(of: u32, expected: Expected, numbers: &[u32]) -> NewBatch {
    NewBatch::new(stream(of), expected, numbers.iter().copied().map(event).collect())
}

const fn exactly(version: u64) -> Expected {
    Expected::Exactly(Version::new(version))
}

/// Appends in a transaction of the store's. The store must accept it.
async fn append<S: Store>(store: &S, batch: &NewBatch) -> Appended {
    appended(store.append_batch(batch).await, "append_batch")
}

fn appended(result: Result<Appended, AppendError>, what: &str) -> Appended {
    match result {
        Ok(appended) => appended,
        Err(error) => panic!("{what}: {error} ({error:?})"),
    }
}

/// The versions of the events of an append.
fn place(appended: Appended) -> (u64, u64) {
    (appended.first.get(), appended.last.get())
}

/// Returns the actual version of a conflict.
fn conflict(result: Result<Appended, AppendError>, expected: Expected, what: &str) -> u64 {
    match result {
        Err(AppendError::Conflict { expected: told, actual, .. }) => {
            assert_eq!(told, expected, "{what}");
            actual.get()
        }
        other => panic!("{what}: wanted a conflict, got {other:?}"),
    }
}

fn closed(result: Result<Appended, AppendError>, of: u32, what: &str) {
    match result {
        Err(AppendError::Closed { stream: told }) => assert_eq!(told, stream(of), "{what}"),
        other => panic!("{what}: wanted `Closed`, got {other:?}"),
    }
}

/// Returns the numbers of the committed events of a stream. Checks that its versions have no gap.
async fn numbers<S: Store>(store: &S, of: u32) -> Vec<u32> {
    let page = expect(store.read_stream(&stream(of), Version::START, 10_000).await, "read_stream");
    assert!(page.is_end, "a stream of small events");
    let events = page.events;
    for (version, event) in (1..).zip(&events) {
        assert_eq!((event.version.get(), &event.stream), (version, &stream(of)));
    }
    events.iter().map(|event| number(&event.data)).collect()
}

/// Returns every event in the order of positions. Checks that the positions have no gap.
async fn ordered<S: Store>(store: &S) -> Vec<Ordered> {
    let mut found: Vec<Ordered> = Vec::new();
    let mut after = Position::START;
    loop {
        let page = expect(store.read_all(after, &Filter::all(), 100).await, "read_all");
        assert!(page.through >= after, "{page:?}");
        after = page.through;
        if page.events.is_empty() {
            break;
        }
        found.extend(page.events);
    }
    for (position, event) in (1..).zip(&found) {
        assert_eq!(event.position.get(), position, "positions without gaps");
    }
    found
}

fn order(events: &[Ordered]) -> Vec<u32> {
    events.iter().map(|ordered| number(&ordered.event.data)).collect()
}

fn number(data: &[u8]) -> u32 {
    data.try_into().map(u32::from_be_bytes).unwrap()
}

#[cfg(test)]
mod tests;
