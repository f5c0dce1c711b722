//! The kinds of failures of a projection: operations of the store, the lease, the handler.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buttress::{Clock, StoreError, StoreErrorKind};
use tower::BoxError;

use super::Config;
use super::shared::Shared;
use crate::answer::Answer;
use crate::bounded::{asking, bounded};
use crate::causes::{AnyStdError, WithCauses, describe, find};
use crate::consume::{Reason, Rejected};
use crate::event::DecodeError;
use crate::event_store::decoder::Undecodable;
use crate::instant;
use crate::outage::{Outage, Say};

/// The longest wait for an answer of the store.
const LONGEST: Duration = Duration::from_secs(10);
/// The wait after the first failure of the store. Each further failure in a row doubles it.
const FIRST: Duration = Duration::from_millis(100);

/// Asks a store up to [`LONGEST`]. Its panic is a transient error.
pub(super) async fn ask<T, F>(clock: &Clock, doing: &str, ask: impl FnOnce() -> F) -> Answer<T>
where
    F: Future<Output = Answer<T>>,
{
    bounded(clock, LONGEST, doing, asking(doing, ask)).await
}

/// An operation of the store that may fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operation {
    Lease,
    Read,
    Commit,
    Park,
}

impl Operation {
    const COUNT: usize = 4;

    pub(super) const fn doing(self) -> &'static str {
        match self {
            Self::Lease => "leasing the projection",
            Self::Read => "reading events",
            Self::Commit => "writing the checkpoint",
            Self::Park => "parking an event",
        }
    }
}

/// The reason why events were not handled.
pub(super) enum Trouble {
    Store(StoreError),
    /// Another worker owns the projection.
    Lost,
    Handler(Fault),
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        if error.is_fenced() { Self::Lost } else { Self::Store(error) }
    }
}

impl Trouble {
    /// Takes in an error of the transaction in which the handler wrote. `Invalid`, and the kind `other`, are failures of the
    /// handler.
    pub(super) fn of_handler(error: StoreError, other: StoreErrorKind) -> Self {
        let kind = error.kind();
        if kind == StoreErrorKind::Invalid || kind == other {
            return Self::Handler(Fault::new(describe(&error)));
        }
        error.into()
    }
}

/// A failed call of the handler.
pub(super) struct Fault {
    pub text: String,
    /// Whether it uses up an attempt.
    pub counts: bool,
    /// Whether another attempt cannot help.
    pub is_final: bool,
    /// The reason of its dead letter.
    pub reason: Reason,
}

impl Fault {
    pub(super) fn new(text: String) -> Self {
        Self { text, counts: true, is_final: false, reason: Reason::Exhausted }
    }

    /// Takes in the error of an event that the store cannot read.
    pub(super) fn unreadable(error: &StoreError) -> Self {
        Self { is_final: true, reason: Reason::Undecodable, ..Self::new(describe(error)) }
    }

    /// Takes in an error of the handler. `may_pass` says whether it is one of the store that passes.
    pub(super) fn of(error: BoxError, may_pass: impl FnOnce(&AnyStdError) -> bool) -> Self {
        let error = &*error;
        let is_undecodable =
            find::<Undecodable>(error).is_some() || find::<DecodeError>(error).is_some();
        let is_rejected = find::<Rejected>(error).is_some();
        let reason = match (is_undecodable, is_rejected) {
            (true, _) => Reason::Undecodable,
            (false, true) => Reason::Rejected,
            (false, false) => Reason::Exhausted,
        };
        Self {
            text: describe(error),
            counts: !may_pass(error),
            is_final: is_undecodable || is_rejected,
            reason,
        }
    }
}

/// The failures of the store, with one log line at the start and one at the end of an outage.
pub(super) struct Troubles {
    shared: Arc<Shared>,
    clock: Clock,
    /// Whether the last commit found another checkpoint. A second one in a row waits.
    has_moved: bool,
    outage: Outage<{ Operation::COUNT }>,
}

impl Troubles {
    pub(super) fn new(shared: &Arc<Shared>, config: &Config) -> Self {
        let (shared, clock) = (shared.clone(), config.common.clock.clone());
        Self { shared, clock, has_moved: false, outage: Outage::default() }
    }

    /// Takes in a failure. Returns when the store is asked again; `None` if another worker owns the projection.
    pub(super) fn failed(&mut self, operation: Operation, trouble: Trouble) -> Option<Instant> {
        let (layer, projection) = (self.shared.layer.as_str(), &*self.shared.name);
        let now = self.clock.now();
        let error = match trouble {
            Trouble::Store(error) if !error.is_fenced() => error,
            Trouble::Store(_) | Trouble::Lost | Trouble::Handler(_) => {
                tracing::warn!(
                    target: "buttress", layer, projection,
                    "the projection has lost its lease, and its batch is rolled back"
                );
                self.shared.count(|stats| stats.fenced += 1);
                return None;
            }
        };
        let doing = operation.doing();
        let mut numbers = self.shared.numbers();
        numbers.stats.failed_operations += 1;
        numbers.troubles.retain(|(known, _)| *known != doing);
        numbers.troubles.push((doing, describe(&error)));
        drop(numbers);
        let is_moved = operation == Operation::Commit && error.kind() == StoreErrorKind::Conflict;
        if is_moved && !std::mem::replace(&mut self.has_moved, true) {
            // The answer to an earlier commit was lost. A renewed lease has the checkpoint.
            tracing::debug!(target: "buttress", layer, projection, error = %WithCauses(&error), "the checkpoint has moved");
            return Some(now);
        }
        let (say, wait) = self.outage.failed(operation as usize, &error, FIRST, now);
        match say {
            Say::Began => tracing::warn!(
                target: "buttress", layer, projection, doing, error = %WithCauses(&error),
                "the projection gets no answer; it repeats the operation after growing waits"
            ),
            Say::Mend => tracing::error!(
                target: "buttress", layer, projection, doing, error = %WithCauses(&error),
                "an operator must fix the store; the projection repeats the operation once a minute"
            ),
            Say::Nothing => {
                tracing::debug!(target: "buttress", layer, projection, doing, error = %WithCauses(&error), ?wait, "the projection gets no answer");
            }
        }
        Some(instant::after(now, wait))
    }

    /// Records that an operation worked.
    pub(super) fn worked(&mut self, operation: Operation) {
        let (layer, projection) = (self.shared.layer.as_str(), &*self.shared.name);
        let doing = operation.doing();
        self.has_moved &= operation != Operation::Commit;
        self.shared.numbers().troubles.retain(|(known, _)| *known != doing);
        if let Some(lasted) = self.outage.worked(operation as usize, self.clock.now()) {
            tracing::info!(
                target: "buttress", layer, projection, doing, ?lasted,
                "the projection gets answers again"
            );
        }
    }
}
