//! The state that a projection shares with its handles.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use buttress::Name;
use tokio::sync::{oneshot, watch};

use crate::answer::Answer;
use crate::event_store::stream::{Position, StreamId, Version};

/// The counters of a projection, since it was created.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Events that the handler has handled, with their checkpoint written.
    pub handled: u64,
    /// Calls of the handler that ended with a commit.
    pub batches: u64,
    /// Calls of the handler that failed.
    pub failed: u64,
    /// Events that were skipped.
    pub skipped: u64,
    /// Events that became dead letters.
    pub parked: u64,
    /// How many times another worker had taken over before a commit.
    pub fenced: u64,
    /// Operations of the store that failed.
    pub failed_operations: u64,
    /// The position of the last handled event that this projection knows.
    pub checkpoint: u64,
    /// Whether this projection has the lease.
    pub is_leased: bool,
}

/// The event at which a projection has stopped, and why.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stopped {
    /// The position of the event.
    pub position: Position,
    /// The stream of the event.
    pub stream: StreamId,
    /// The place of the event in the stream.
    pub version: Version,
    /// The kind of the event.
    pub kind: String,
    /// The last error and its causes.
    pub error: String,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { position, stream, version, kind, error } = self;
        write!(
            f,
            "the projection has stopped at position {position}, event {version} of stream {stream}, kind `{kind}`: {error}"
        )
    }
}

/// What became of a replay of parked events.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Replayed {
    /// Parked events that have taken effect. Their letters are removed.
    pub events: u64,
    /// Letters that are left: the event failed again, or an earlier event of its stream did.
    pub left: u64,
}

/// The commands of operators.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Control {
    pub is_paused: bool,
    pub is_shutting_down: bool,
    /// How many times an operator has resumed the projection.
    pub resumes: u64,
    /// How many times an operator has asked for a replay of parked events.
    pub replays: u64,
}

/// The state that operators can read.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    pub stats: Stats,
    pub stopped: Option<Stopped>,
    /// The operations that fail now, and their last errors.
    pub troubles: Vec<(&'static str, String)>,
}

#[derive(Debug)]
pub(super) struct Shared {
    pub layer: Name,
    pub name: Arc<str>,
    pub control: watch::Sender<Control>,
    numbers: Mutex<Numbers>,
    replays: Mutex<VecDeque<ReplayRequest>>,
}

/// Takes the answer to a request for a replay of parked events.
pub(super) type ReplayRequest = oneshot::Sender<Answer<Replayed>>;

impl Shared {
    pub(super) fn new(layer: Name, name: Arc<str>) -> Self {
        let (control, numbers, replays) = Default::default();
        Self { layer, name, control, numbers, replays }
    }

    /// Asks the projection for a replay of parked events.
    pub(super) fn ask_for_replay(&self, request: ReplayRequest) {
        self.replays().push_back(request);
        self.control.send_modify(|control| control.replays += 1);
    }

    pub(super) fn wants_replay(&self) -> bool {
        !self.replays().is_empty()
    }

    pub(super) fn take_replay(&self) -> Option<ReplayRequest> {
        self.replays().pop_front()
    }

    fn replays(&self) -> MutexGuard<'_, VecDeque<ReplayRequest>> {
        self.replays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn numbers(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Stats)) {
        change(&mut self.numbers().stats);
    }
}
