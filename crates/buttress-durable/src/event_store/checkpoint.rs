//! The records of projections: leases, checkpoints, swaps.

use std::sync::Arc;
use std::time::Duration;

use buttress::__ids as ids;

use super::stream::Position;

ids! {
    /// The id of a worker that runs projections. Each projection value generates a new id.
    ProjectorId;
}

/// The start of a projection that the store does not know yet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Start {
    /// The projection begins with the first event. The default.
    #[default]
    First,
    /// The projection begins after the last event that has a position now.
    Last,
}

/// The longest name of a projection in bytes.
pub const LONGEST_PROJECTION: usize = 256;

/// A request for the lease of a projection.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProjectionClaim<'a> {
    /// The name of the projection, between 1 and [`LONGEST_PROJECTION`] bytes.
    pub name: &'a str,
    /// The worker.
    pub worker: ProjectorId,
    /// How long the lease lasts from now.
    pub lease: Duration,
    /// Where the projection begins if the store does not know it. `None`: the store creates no projection.
    pub start: Option<Start>,
}

impl<'a> ProjectionClaim<'a> {
    /// Creates a request of `worker` for `lease` from now. A new projection begins with the first event.
    #[must_use]
    pub const fn new(name: &'a str, worker: ProjectorId, lease: Duration) -> Self {
        Self { name, worker, lease, start: Some(Start::First) }
    }

    /// Creates no projection: the answer is `None` if the store does not know it. For renewals, because the projection may
    /// have been removed.
    #[must_use]
    pub const fn known_only(mut self) -> Self {
        self.start = None;
        self
    }

    /// Sets where a new projection begins.
    #[must_use]
    pub const fn start(mut self, start: Start) -> Self {
        self.start = Some(start);
        self
    }
}

/// A projection that a worker owns until another worker takes it over. Worker and epoch together are the fence.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ProjectionLease {
    /// The name of the projection.
    pub name: Arc<str>,
    /// The worker.
    pub worker: ProjectorId,
    /// The epoch, which every change of owner raises by one. Epochs from `i64::MAX` on are never assigned.
    pub epoch: u64,
}

impl ProjectionLease {
    /// Creates the lease of a projection.
    pub fn new(name: impl Into<Arc<str>>, worker: ProjectorId, epoch: u64) -> Self {
        Self { name: name.into(), worker, epoch }
    }
}

/// The lease of a projection, with its progress.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leased {
    /// The lease.
    pub lease: ProjectionLease,
    /// The checkpoint: the position of the last handled event.
    pub checkpoint: Position,
    /// The greatest checkpoint that a projection of this name ever had. Events up to it are replayed.
    pub seen: Position,
    /// The last [`Advance::replayed`]; the start if there was none.
    pub replayed: Position,
    /// The checkpoint of the last swap that replaced this projection; the start if there was none. The replacement was
    /// built from every event up to this position.
    pub rebuilt: Position,
}

impl Leased {
    /// Creates the record of a leased projection that has replayed no event and was never replaced.
    #[must_use]
    pub const fn new(lease: ProjectionLease, checkpoint: Position, seen: Position) -> Self {
        Self { lease, checkpoint, seen, replayed: Position::START, rebuilt: Position::START }
    }

    /// Sets the position of the last replayed event.
    #[must_use]
    pub const fn replayed(mut self, position: Position) -> Self {
        self.replayed = position;
        self
    }

    /// Sets the checkpoint of the last swap that replaced the projection.
    #[must_use]
    pub const fn rebuilt(mut self, checkpoint: Position) -> Self {
        self.rebuilt = checkpoint;
        self
    }
}

/// A move of a checkpoint.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Advance {
    /// The lease of the projection.
    pub lease: ProjectionLease,
    /// The checkpoint before.
    pub from: Position,
    /// The checkpoint afterwards. At least `from`; an equal one checks the lease only.
    pub to: Position,
    /// The position of a parked event that took effect in this transaction. The store keeps the last one, and returns it
    /// with the [lease](Leased::replayed).
    pub replayed: Option<Position>,
}

impl Advance {
    /// Creates the move of a checkpoint.
    #[must_use]
    pub const fn new(lease: ProjectionLease, from: Position, to: Position) -> Self {
        Self { lease, from, to, replayed: None }
    }

    /// Sets the position of a parked event that took effect in this transaction.
    #[must_use]
    pub const fn replayed(mut self, position: Position) -> Self {
        self.replayed = Some(position);
        self
    }
}

/// The replacement of a projection by another that was built beside it.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Swap {
    /// The lease of the projection that was built.
    pub built: ProjectionLease,
    /// The checkpoint of the projection that was built.
    pub at: Position,
    /// The name of the projection that is replaced.
    pub name: Arc<str>,
    /// Whether the replaced projection gets no event that it has passed, and every event that it has not passed. Its
    /// checkpoint is then the smaller one of `at` and its [`seen`](ProjectionState::seen), which stays.
    pub is_live_only: bool,
}

impl Swap {
    /// Creates the replacement of the projection `name` by `built`, whose checkpoint is `at`.
    pub fn new(built: ProjectionLease, at: Position, name: impl Into<Arc<str>>) -> Self {
        Self { built, at, name: name.into(), is_live_only: false }
    }

    /// Sets whether the replaced projection continues with the first event that it has not passed, although the built one
    /// has passed it. For effects that a rebuild leaves out.
    #[must_use]
    pub const fn live_only(mut self, is_live_only: bool) -> Self {
        self.is_live_only = is_live_only;
        self
    }
}

/// The state of a projection in a store.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProjectionState {
    /// The name of the projection.
    pub name: String,
    /// The position of the last handled event.
    pub checkpoint: Position,
    /// The greatest checkpoint that a projection of this name ever had.
    pub seen: Position,
    /// Whether a worker has a live lease.
    pub is_leased: bool,
    /// How many events have a later position, also those that the filter of the projection leaves out.
    pub lag: u64,
    /// How long ago the first of these events was recorded. Zero if there is none.
    pub age: Duration,
}

impl ProjectionState {
    /// Creates the state of a projection that has handled every event and that no worker owns.
    pub fn new(name: impl Into<String>, checkpoint: Position, seen: Position) -> Self {
        let (is_leased, lag, age) = (false, 0, Duration::ZERO);
        Self { name: name.into(), checkpoint, seen, is_leased, lag, age }
    }
}
