use buttress::StoreErrorKind;
use buttress_durable::event_store::{
    Advance, Appended, Expected, NewBatch, NewEvent, Page, Position, ProjectionLease, ProjectorId,
    Recorded, StreamId, Swap, Version,
};
use buttress_durable::outbox::MessageId;
use sqlx::Error;

use super::append::{Head, Place, Refused, place, searched, to_read};
use super::projection::{Owner, Turn, check_swap, not_moved, refuse_return, turn};
use super::{end, page, stream, through};
use crate::columns::Columns;

fn event(number: u8) -> NewEvent {
    NewEvent::new(MessageId::new(number.into()), "order.placed", [number])
}

fn batch(expected: Expected, numbers: &[u8]) -> NewBatch {
    let events = numbers.iter().copied().map(event).collect();
    NewBatch::new(StreamId::new("order", "7"), expected, events)
}

fn recorded(version: u64, number: u8) -> Recorded {
    let (stream, version) = (StreamId::new("order", "7"), Version::new(version));
    Recorded::new(stream, version, event(number), std::time::Duration::from_secs(1))
}

fn head(version: u64, is_closed: bool) -> Head {
    Head { number: 1, version: Version::new(version), is_closed }
}

const fn exactly(version: u64) -> Expected {
    Expected::Exactly(Version::new(version))
}

#[test]
fn events_6_2_an_append_goes_to_the_expected_version_only() {
    let conflict = |actual| Place::Done(Err(Refused::Conflict(Version::new(actual))));
    for (expected, actual, decided) in [
        (Expected::New, None, Place::After(Version::START)),
        (Expected::Any, None, Place::After(Version::START)),
        (Expected::Exists, None, conflict(0)),
        (exactly(1), None, conflict(0)),
        (exactly(0), Some(6), conflict(6)),
        (exactly(5), Some(6), conflict(6)),
        (exactly(7), Some(6), conflict(6)),
        (exactly(6), Some(6), Place::After(Version::new(6))),
        (Expected::Any, Some(6), Place::After(Version::new(6))),
        (Expected::Exists, Some(6), Place::After(Version::new(6))),
    ] {
        let head = actual.map(|version| head(version, false));
        assert_eq!(place(&batch(expected, &[9]), head, &[]), decided, "{expected:?} {actual:?}");
    }
}

#[test]
fn events_6_3_a_repeated_batch_has_its_place_also_in_a_closed_stream() {
    let done = |before| Place::Done(Ok(Appended::new(Version::new(before), 2)));
    let found = [recorded(3, 1), recorded(4, 2)];
    for is_closed in [false, true] {
        let head = Some(head(9, is_closed));
        assert_eq!(place(&batch(exactly(2), &[1, 2]), head, &found), done(2));
        assert_eq!(place(&batch(Expected::Any, &[1, 2]), head, &found), done(2));
    }
    let other = place(&batch(exactly(2), &[1, 3]), Some(head(9, false)), &found);
    assert_eq!(other, Place::Done(Err(Refused::Conflict(Version::new(9)))));
}

#[test]
fn events_6_14_a_closed_stream_is_closed_for_every_expectation() {
    for expected in [exactly(6), exactly(5), Expected::Any, Expected::New, Expected::Exists] {
        let decided = place(&batch(expected, &[9]), Some(head(6, true)), &[]);
        assert_eq!(decided, Place::Done(Err(Refused::Closed)), "{expected:?}");
    }
}

#[test]
fn only_a_batch_that_may_be_there_is_read() {
    let looked = |expected, at| searched(&batch(expected, &[1, 2]), head(at, false));
    assert_eq!(looked(exactly(6), 6), None);
    assert_eq!(looked(exactly(9), 6), None);
    assert_eq!(looked(exactly(2), 6), Some((2, 3)), "only the first event");
    assert_eq!(looked(Expected::Any, 500), Some((398, 500)));
    assert_eq!(looked(Expected::Any, 50), Some((0, 50)));
    assert_eq!(to_read(Some(4)), Some(Version::new(3)));
    for damaged in [None, Some(0), Some(-1), Some(i64::MIN)] {
        assert_eq!(to_read(damaged), None);
    }
}

const ONE: ProjectorId = ProjectorId::new(1);
const TWO: ProjectorId = ProjectorId::new(2);

fn owner(worker: Option<u128>, until: i64) -> Owner {
    Owner { worker, until, length: 10, epoch: 3, checkpoint: 7, seen: 9, replayed: 0, rebuilt: 0 }
}

#[test]
fn events_6_8_a_projection_has_one_owner() {
    for (worker, until, now, decided) in [
        (None, 0, 100, Turn::Own(4)),
        // Its own lease, live or over: the same epoch.
        (Some(1), 110, 100, Turn::Own(3)),
        (Some(1), 90, 100, Turn::Own(3)),
        (Some(2), 110, 109, Turn::Wait),
        (Some(2), 110, 110, Turn::Own(4)),
        // The clock was set back: the lease counts for its length from now.
        (Some(2), 110, 99, Turn::Shorten(109)),
        (Some(2), i64::MAX, 5, Turn::Shorten(15)),
    ] {
        let decision = turn("list", owner(worker, until), ONE, now).unwrap();
        assert_eq!(decision, decided, "{worker:?} {until} {now}");
    }
}

#[test]
fn a_damaged_epoch_is_never_raised() {
    for (worker, epoch) in
        [(None, i64::MAX - 1), (None, -7), (Some(1), i64::MAX), (Some(1), -1), (Some(2), i64::MAX)]
    {
        let row = Owner { epoch, ..owner(worker, 0) };
        let error = turn("list", row, ONE, 100).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Corrupt, "{worker:?} {epoch}");
        assert!(error.to_string().contains("list"), "{error}");
    }
}

#[test]
fn events_6_8_a_checkpoint_that_did_not_move_was_fenced_or_is_elsewhere() {
    let lease = |worker, epoch| ProjectionLease::new("list", worker, epoch);
    for (lease, row, kind) in [
        (lease(ONE, 3), Some(owner(Some(1), 0)), StoreErrorKind::Conflict),
        (lease(ONE, 2), Some(owner(Some(1), 0)), StoreErrorKind::Fenced),
        (lease(TWO, 3), Some(owner(Some(1), 0)), StoreErrorKind::Fenced),
        (lease(ONE, 3), Some(owner(None, 0)), StoreErrorKind::Fenced),
        (lease(ONE, u64::MAX), Some(owner(Some(1), 0)), StoreErrorKind::Fenced),
        (lease(ONE, 3), None, StoreErrorKind::Fenced),
    ] {
        assert_eq!(not_moved(&lease, Position::new(5), row).kind(), kind, "{lease:?} {row:?}");
    }
    let back = Advance::new(lease(ONE, 3), Position::new(5), Position::new(4));
    assert_eq!(refuse_return(&back).unwrap_err().kind(), StoreErrorKind::Conflict);
    let itself = Swap::new(lease(ONE, 3), Position::new(5), "list");
    assert_eq!(check_swap(&itself).unwrap_err().kind(), StoreErrorKind::Invalid);
}

/// A row of an event: position, stream, and version.
struct Row {
    position: i64,
    version: i64,
    headers: Option<Vec<u8>>,
    /// The bytes of the page up to this row.
    total: i64,
}

impl Columns for Row {
    fn int(&self, column: usize) -> Result<i64, Error> {
        match column {
            0 => Ok(self.position),
            3 => Ok(self.version),
            6 => Ok(1),
            9 => Ok(5),
            10 => Ok(self.total),
            _ => Err(Error::ColumnNotFound(column.to_string())),
        }
    }

    fn text(&self, column: usize) -> Result<String, Error> {
        Ok(["order", "7", "order.placed"][if column == 5 { 2 } else { column - 1 }].to_owned())
    }

    fn bytes(&self, _column: usize) -> Result<Vec<u8>, Error> {
        Ok(vec![1])
    }

    fn bytes_or_null(&self, _column: usize) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.headers.clone())
    }

    fn id(&self, _column: usize) -> Result<u128, Error> {
        Ok(1)
    }

    fn int_or_null(&self, column: usize) -> Result<Option<i64>, Error> {
        self.int(column).map(Some)
    }

    fn text_or_null(&self, column: usize) -> Result<Option<String>, Error> {
        self.text(column).map(Some)
    }

    fn flag(&self, _column: usize) -> Result<bool, Error> {
        Ok(true)
    }

    fn id_or_null(&self, column: usize) -> Result<Option<u128>, Error> {
        self.id(column).map(Some)
    }
}

fn row(position: i64, version: i64) -> Row {
    Row { position, version, headers: None, total: 1 }
}

#[test]
fn events_6_9_an_event_that_cannot_be_read_is_named_and_those_before_it_are_a_page() {
    let rows = [row(3, 1), row(4, 2), row(5, 0), row(6, 4)];
    let found = page(&rows, Position::new(6), true).unwrap();
    assert_eq!((found.events.len(), found.through.get()), (2, 4));
    let error = page(&rows[2..], Position::new(6), true).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    for part in ["position 5", "stream order/7", "kind order.placed", "version 0"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    let headers = [Row { headers: Some(vec![0, 0, 9]), ..row(3, 1) }];
    assert!(page(&headers, Position::new(3), true).is_err());
    // A filter left positions out before the unreadable event.
    let found = page(&[row(3, 1), row(9, 0)], Position::new(20), true).unwrap();
    assert_eq!((found.events.len(), found.through.get()), (1, 8));
    // The rows of a stream begin with the version.
    let error = stream(&[row(0, 1)], &StreamId::new("order", "7")).unwrap_err();
    assert!(error.to_string().contains("stream order/7, version 0"), "{error}");
}

#[test]
fn a_page_ends_at_its_last_event_or_where_it_was_examined() {
    let rows = [row(3, 1), row(4, 2)];
    let after = Position::new(2);
    assert_eq!(through(&rows, 2, after, 100).get(), 4);
    assert_eq!(through(&rows, 3, after, 100).get(), 100);
    let large = [row(3, 1), Row { total: Page::LARGEST as i64, ..row(4, 2) }];
    assert_eq!(through(&large, 3, after, 100).get(), 4, "the bound in bytes");
    let small = [row(3, 1), Row { total: Page::LARGEST as i64 - 1, ..row(4, 2) }];
    assert_eq!(through(&small, 3, after, 100).get(), 100);
    assert_eq!(through::<Row>(&[], 3, after, 100).get(), 100);
    assert_eq!(through::<Row>(&[], 0, after, 100).get(), 2);
    assert_eq!(end(after, 100), 100);
    assert_eq!(end(after, 1_000_000), 20_002);
    assert_eq!(end(Position::new(u64::MAX), 100), 100);
}
