//! The decision about an append.

use buttress::StoreError;
use buttress_durable::Answer;
use buttress_durable::event_store::{
    AppendError, Appended, NewBatch, REPEATS, Recorded, StreamId, StreamState, Version,
    find_repeated,
};

use crate::columns::Columns;
use crate::number::signed;

/// No stream gets this many events.
const LAST: u64 = i64::MAX as u64 - NewBatch::MOST_EVENTS as u64;

/// The row of a stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub number: i64,
    pub version: Version,
    pub is_closed: bool,
}

impl Head {
    /// Reads a row: number, version, and whether the stream is closed.
    ///
    /// # Errors
    /// Returns `Corrupt` if the row is damaged. A stream without events has no row, and a version leaves room for the
    /// events of a batch.
    pub(crate) fn read<R: Columns>(row: &R, stream: &StreamId) -> Answer<Self> {
        let damaged = |error: String| StoreError::corrupt(format!("stream {stream}: {error}"));
        let unreadable = |error: sqlx::Error| damaged(error.to_string());
        let version = row.int(1).map_err(unreadable)?;
        let version = u64::try_from(version).ok().filter(|version| (1..LAST).contains(version));
        let version = version.ok_or_else(|| damaged_version(stream))?;
        let (number, is_closed) =
            (row.int(0).map_err(unreadable)?, row.flag(2).map_err(unreadable)?);
        Ok(Self { number, version: Version::new(version), is_closed })
    }

    pub(crate) const fn state(self) -> StreamState {
        StreamState::new(self.version, self.is_closed)
    }
}

/// The error of a stream whose row and events differ.
pub(crate) fn damaged_version(stream: &StreamId) -> StoreError {
    StoreError::corrupt(format!("stream {stream}: its version is damaged"))
}

/// The reason why nothing was appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refused {
    /// The stream has this version.
    Conflict(Version),
    Closed,
}

/// The answer to an append.
pub(crate) type Verdict = Answer<Result<Appended, Refused>>;

/// The result of the check of an append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// The events follow this version.
    After(Version),
    /// Nothing is written: the events are there, or they were refused.
    Done(Result<Appended, Refused>),
}

/// Returns the versions between which a store looks for the first event of a batch: after the first, and up to the second
/// one. `None` if the batch cannot be there.
pub(crate) fn searched(batch: &NewBatch, head: Head) -> Option<(i64, i64)> {
    let window = (REPEATS + batch.events.len()) as u64;
    let (after, through) = match batch.expected.version() {
        Some(version) => (version.get(), version.plus(1).get()),
        None => (head.version.get().saturating_sub(window), head.version.get()),
    };
    (after < head.version.get()).then(|| (signed(after), signed(through)))
}

/// Returns the version after which the stream may contain the batch already. `found` is the version of its first event.
pub(crate) fn to_read(found: Option<i64>) -> Option<Version> {
    found.and_then(|found| u64::try_from(found).ok()?.checked_sub(1)).map(Version::new)
}

/// Decides about an append. `recorded` has the events after the version of [`to_read`], as many as the batch has.
pub(crate) fn place(batch: &NewBatch, head: Option<Head>, recorded: &[Recorded]) -> Place {
    let (actual, is_closed) = head.map_or((Version::START, false), |h| (h.version, h.is_closed));
    if let Some(before) = find_repeated(batch.expected, &batch.events, recorded) {
        return Place::Done(Ok(Appended::new(before, batch.events.len())));
    }
    if is_closed {
        return Place::Done(Err(Refused::Closed));
    }
    if !batch.expected.admits(actual) {
        return Place::Done(Err(Refused::Conflict(actual)));
    }
    Place::After(actual)
}

/// Returns the answer for the caller.
pub(crate) fn answer(
    batch: &NewBatch,
    verdict: Result<Appended, Refused>,
) -> Result<Appended, AppendError> {
    verdict.map_err(|refused| {
        let (stream, expected) = (batch.stream.clone(), batch.expected);
        match refused {
            Refused::Conflict(actual) => AppendError::Conflict { stream, expected, actual },
            Refused::Closed => AppendError::Closed { stream },
        }
    })
}
