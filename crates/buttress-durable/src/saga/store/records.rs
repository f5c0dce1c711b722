//! The values that a [`Store`](super::Store) takes and returns.

use std::time::Duration;

use buttress::__ids as ids;

use crate::saga::model::entry::{Beginning, Entry, Status};
use crate::saga::model::id::SagaId;

ids! {
    /// The id of a worker: an executor that runs sagas. Each executor generates a new id, so ids are
    /// never reused.
    WorkerId;
}

impl WorkerId {
    /// The owner of a saga that was created in a transaction and that no worker has taken yet. It
    /// never has a lease.
    pub const NOBODY: Self = Self::new(0);
}

/// A saga that an executor starts.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewSaga<P> {
    /// The id, which the caller generates.
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
    /// The status of the saga after these entries. An ended saga has no owner any more, and a waiting saga
    /// needs none.
    pub status: Status,
    /// The time from now on after which a [waiting](Status::Waiting) saga is due. `None` for every other
    /// status.
    pub due_in: Option<Duration>,
    /// How many signals of the saga the caller has seen. If the store has recorded more, it appends nothing, and
    /// [answers](Appended::has_unseen_signals) so. `None` for an append that does not depend on signals.
    pub seen_signals: Option<u64>,
    /// Whether the caller knew that the cancellation of the saga is requested when it made the append. If it did not
    /// know of the request, a saga that [waits](Status::Waiting) after this append is due immediately, and a saga
    /// does not [complete](Status::Completed): the store appends nothing, and
    /// [answers](Appended::has_unseen_cancel) so.
    pub knows_cancel: bool,
}

impl<P> Append<P> {
    /// Makes the saga wait, with status [`Waiting`](Status::Waiting), until it is due after `due_in`.
    #[must_use]
    pub const fn waiting(mut self, due_in: Duration) -> Self {
        self.status = Status::Waiting;
        self.due_in = Some(due_in);
        self
    }

    /// Makes the append depend on the signals: the store appends nothing if it has recorded more than `seen`.
    #[must_use]
    pub const fn unless_signalled(mut self, seen: u64) -> Self {
        self.seen_signals = Some(seen);
        self
    }

    /// Sets whether the caller [knows](Self::knows_cancel) of a requested cancellation. Default: `false`.
    #[must_use]
    pub const fn knowing_cancel(mut self, knows: bool) -> Self {
        self.knows_cancel = knows;
        self
    }

    /// Returns whether the append would complete a saga whose cancellation is requested, for a caller that does not
    /// [know](Self::knows_cancel) of the request. `cancel_requested` is the fact in the store.
    #[must_use]
    pub fn overlooks_cancel(&self, cancel_requested: bool) -> bool {
        cancel_requested && !self.knows_cancel && self.status == Status::Completed
    }

    /// Creates an append to the log of `saga`. The log has `position` entries, and the worker owns it under `epoch`.
    #[must_use]
    pub const fn new(
        saga: SagaId,
        epoch: u64,
        position: u64,
        entries: Vec<Entry<P>>,
        status: Status,
    ) -> Self {
        Self {
            saga,
            epoch,
            position,
            entries,
            status,
            due_in: None,
            seen_signals: None,
            knows_cancel: false,
        }
    }
}

/// The answer to an append.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Appended {
    /// Whether a caller has requested the cancellation of the saga.
    pub cancel_requested: bool,
    /// Whether the store has appended nothing, because it has recorded more signals than the caller has
    /// [seen](Append::seen_signals).
    pub has_unseen_signals: bool,
    /// Whether the store has appended nothing, because the saga would complete and the caller does not
    /// [know](Append::knows_cancel) of its requested cancellation.
    pub has_unseen_cancel: bool,
}

impl Appended {
    /// Creates the answer to an append that the log holds.
    #[must_use]
    pub const fn new(cancel_requested: bool) -> Self {
        Self { cancel_requested, has_unseen_signals: false, has_unseen_cancel: false }
    }

    /// Creates the answer to an append that the store has left out, because its caller has not seen all signals.
    #[must_use]
    pub const fn unseen_signals(cancel_requested: bool) -> Self {
        Self { has_unseen_signals: true, ..Self::new(cancel_requested) }
    }

    /// Creates the answer to an append that the store has left out, because its caller does not know of the requested
    /// cancellation.
    #[must_use]
    pub const fn unseen_cancel() -> Self {
        Self { has_unseen_cancel: true, ..Self::new(true) }
    }

    /// Whether the store has appended nothing.
    #[must_use]
    pub const fn is_left_out(self) -> bool {
        self.has_unseen_signals || self.has_unseen_cancel
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
    /// When the saga was created, as wall time since 1970 by the store's clock. `None` if a release
    /// that kept no times has created it.
    pub created_at: Option<Duration>,
    /// When a [waiting](Status::Waiting) saga is due, as wall time since 1970 by the store's clock. `None` for
    /// every other status.
    pub due_at: Option<Duration>,
    /// When the store has read the record to hand it over, as wall time since 1970 by its own clock. `None`
    /// in a record that was only loaded.
    pub taken_at: Option<Duration>,
    /// How many signals the store has recorded for the saga. [`Store::signals`](super::Store::signals) returns
    /// them.
    pub signals: u64,
    /// When each of the entries was recorded, like [`created_at`](Self::created_at). Entries without
    /// a place in it have no known time.
    pub times: Vec<Option<Duration>>,
}

impl<P> Record<P> {
    /// Creates the record of a running saga under epoch 1, without a deadline, without a cancel
    /// request, and without times.
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
            created_at: None,
            due_at: None,
            taken_at: None,
            signals: 0,
            times: Vec::new(),
        }
    }
}

/// A request for a page of the list of sagas. The list is ordered by id.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// The status of the sagas. `None` for sagas of every status.
    pub status: Option<Status>,
    /// The id after which the page begins. `None` for the first page.
    pub after: Option<SagaId>,
    /// The most sagas of the page.
    pub limit: usize,
}

impl Page {
    /// Creates a request for the first `limit` sagas, of every status.
    #[must_use]
    pub const fn first(limit: usize) -> Self {
        Self { status: None, after: None, limit }
    }

    /// Asks only for sagas with `status`. `None` asks for sagas of every status.
    #[must_use]
    pub fn status(self, status: impl Into<Option<Status>>) -> Self {
        Self { status: status.into(), ..self }
    }

    /// Begins the page after the saga `after`, the last one of the page before. `None` asks for the
    /// first page.
    #[must_use]
    pub fn after(self, after: impl Into<Option<SagaId>>) -> Self {
        Self { after: after.into(), ..self }
    }
}

/// A saga in a list.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The id of the saga.
    pub id: SagaId,
    /// The name of the saga's definition.
    pub definition: String,
    /// The version of the saga's definition.
    pub version: u32,
    /// The status of the saga.
    pub status: Status,
    /// The latest epoch of the saga.
    pub epoch: u64,
    /// When a [waiting](Status::Waiting) saga is due, as wall time since 1970 by the store's clock. `None` for
    /// every other status.
    pub due_at: Option<Duration>,
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
        Self { id, definition: definition.into(), version, status, epoch, due_at: None }
    }
}

/// A request to take over sagas of one version of a definition.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TakeOver<'a> {
    /// The worker that takes the sagas over.
    pub worker: WorkerId,
    /// The name of the definition.
    pub definition: &'a str,
    /// The version of the definition.
    pub version: u32,
    /// The most sagas that the store hands over.
    pub limit: usize,
}

impl<'a> TakeOver<'a> {
    /// Creates a request of `worker` for up to `limit` sagas of a version of a definition.
    #[must_use]
    pub const fn new(
        worker: WorkerId,
        (definition, version): (&'a str, u32),
        limit: usize,
    ) -> Self {
        Self { worker, definition, version, limit }
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
