//! The values that a [`Store`](super::Store) takes and returns.

use std::time::Duration;

use crate::id::ids;
use crate::saga::model::entry::{Beginning, Entry, Status};

ids! {
    /// The id of a saga.
    SagaId;
    /// The id of a worker: an executor that runs sagas. Each executor draws a new id, so ids are
    /// never reused.
    WorkerId;
}

/// A saga that an executor starts.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSaga<P> {
    /// The id, drawn by the caller.
    pub id: SagaId,
    /// The name of its definition.
    pub definition: String,
    /// The version of its definition.
    pub version: u32,
    /// The name of the codec of all its payloads.
    pub codec: &'static str,
    /// The worker that runs the saga. It must have called
    /// [`renew_worker`](super::Store::renew_worker) before.
    pub worker: WorkerId,
    /// When the saga stops starting steps, as wall time since 1970.
    pub deadline: Option<Duration>,
    /// The first entry of the log, with the input of the saga.
    pub beginning: Beginning<P>,
    /// The entries after the first one, counted from position 0.
    pub entries: Vec<Entry<P>>,
}

impl<P> NewSaga<P> {
    /// Creates a saga with no deadline and no further entries.
    #[must_use]
    pub fn new(
        id: SagaId,
        (definition, version): (impl Into<String>, u32),
        codec: &'static str,
        worker: WorkerId,
        beginning: Beginning<P>,
    ) -> Self {
        Self {
            id,
            definition: definition.into(),
            version,
            codec,
            worker,
            deadline: None,
            beginning,
            entries: Vec::new(),
        }
    }
}

/// More entries for the log of a saga.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Append<P> {
    /// The id of the saga.
    pub saga: SagaId,
    /// The epoch under which the caller owns the saga.
    pub epoch: u64,
    /// How many entries the log holds before these: the position of the first new one, from 0.
    pub position: u64,
    /// The new entries, at least one.
    pub entries: Vec<Entry<P>>,
    /// The status of the saga after these entries. An ended saga has no owner any more.
    pub status: Status,
}

impl<P> Append<P> {
    /// Creates an append to the log of `saga`, which is owned under `epoch` and holds `position` entries.
    #[must_use]
    pub const fn new(
        saga: SagaId,
        epoch: u64,
        position: u64,
        entries: Vec<Entry<P>>,
        status: Status,
    ) -> Self {
        Self { saga, epoch, position, entries, status }
    }
}

/// The answer to an append.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Appended {
    /// Whether a caller has requested the cancellation of the saga.
    pub cancel_requested: bool,
}

impl Appended {
    /// Creates an answer.
    #[must_use]
    pub const fn new(cancel_requested: bool) -> Self {
        Self { cancel_requested }
    }
}

/// A saga as the store holds it.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record<P> {
    /// The id of the saga.
    pub id: SagaId,
    /// The name of its definition.
    pub definition: String,
    /// The version of its definition.
    pub version: u32,
    /// The name of the codec of its payloads.
    pub codec: String,
    /// The epoch under which the saga is owned now. The first is 1, and every take-over adds one.
    /// Epochs from `i64::MAX` on are never assigned.
    pub epoch: u64,
    /// The status of the saga.
    pub status: Status,
    /// Whether a caller has requested the cancellation of the saga.
    pub cancel_requested: bool,
    /// When the saga stops starting steps, as wall time since 1970.
    pub deadline: Option<Duration>,
    /// The first entry of the log, with the input of the saga.
    pub beginning: Beginning<P>,
    /// The entries after the first one, in order.
    pub entries: Vec<Entry<P>>,
}

impl<P> Record<P> {
    /// Creates the record of a running saga under epoch 1, without a deadline and without a cancel
    /// request.
    #[must_use]
    pub fn new(
        id: SagaId,
        (definition, version): (impl Into<String>, u32),
        codec: impl Into<String>,
        beginning: Beginning<P>,
        entries: Vec<Entry<P>>,
    ) -> Self {
        Self {
            id,
            definition: definition.into(),
            version,
            codec: codec.into(),
            epoch: 1,
            status: Status::Running,
            cancel_requested: false,
            deadline: None,
            beginning,
            entries,
        }
    }
}

/// A saga in a list.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The id of the saga.
    pub id: SagaId,
    /// The name of its definition.
    pub definition: String,
    /// The version of its definition.
    pub version: u32,
    /// The status of the saga.
    pub status: Status,
    /// The latest epoch of the saga.
    pub epoch: u64,
}

impl Summary {
    /// Creates the summary of a saga.
    #[must_use]
    pub fn new(
        id: SagaId,
        (definition, version): (impl Into<String>, u32),
        status: Status,
        epoch: u64,
    ) -> Self {
        Self { id, definition: definition.into(), version, status, epoch }
    }
}

/// The result of a take-over.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TakenOver<P> {
    /// Sagas that the caller owns now, under the epoch in the record.
    pub sagas: Vec<Record<P>>,
    /// Sagas that cannot be read, with the text of a `Corrupt` error. They stay unchanged. Later
    /// calls of this worker return other sagas before they return these again.
    pub corrupt: Vec<(SagaId, String)>,
}

impl<P> TakenOver<P> {
    /// Creates the result of a take-over that found no sagas.
    #[must_use]
    pub const fn new() -> Self {
        Self { sagas: Vec::new(), corrupt: Vec::new() }
    }
}

impl<P> Default for TakenOver<P> {
    fn default() -> Self {
        Self::new()
    }
}
