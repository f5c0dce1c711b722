use std::fmt;
use std::sync::Arc;

use super::detached::Detached;
use super::shared::{Counter, Shared};
use super::store::Size;
use crate::sync::Ordering;
use crate::vocabulary::observe::Common;

/// The operator's view of an idempotency layer. Cheap to clone; all clones, and every service of the
/// layer, share one state.
#[derive(Clone)]
pub struct Handle {
    view: Arc<dyn View>,
}

/// A layer without the type of its values.
trait View: Send + Sync {
    fn stats(&self) -> Stats;
    fn common(&self) -> &Common;
    fn detached(&self) -> &Arc<Detached>;
}

impl Handle {
    pub(super) fn new<V: Send + 'static>(shared: Arc<Shared<V>>) -> Self {
        Self { view: shared }
    }

    /// Begins no handler any more, and waits until those that run
    /// [detached](super::Config::detached) are done. Calls that would have begun one are refused with
    /// [`ShuttingDown`](crate::ErrorKind::ShuttingDown); answers that are stored are still given.
    ///
    /// There is no way back; a layer that does not run its handlers detached has none to wait for and
    /// goes on.
    ///
    /// # Cancel safety
    /// Dropping the future waits no longer; handlers are refused all the same.
    pub async fn drain(&self) {
        self.view.detached().drain().await;
    }

    pub(super) fn common(&self) -> &Common {
        self.view.common()
    }

    /// Returns the numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.view.stats()
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.view.common().name)
            .field("stats", &self.stats())
            .finish()
    }
}

impl<V: Send + 'static> View for Shared<V> {
    fn stats(&self) -> Stats {
        let counters = &self.counters;
        let common = &self.config.common;
        Stats {
            started: counters.sum(Counter::Started),
            replayed: counters.sum(Counter::Replayed),
            waited: counters.sum(Counter::Waited),
            refused: counters.sum(Counter::Refused),
            mismatched: counters.sum(Counter::Mismatched),
            taken_over: counters.sum(Counter::TakenOver),
            failed: counters.sum(Counter::Failed),
            fenced: counters.sum(Counter::Fenced),
            not_kept: counters.sum(Counter::NotKept),
            store_failed: counters.sum(Counter::StoreFailed),
            unprotected: counters.sum(Counter::Unprotected),
            passed: common.count_calls.then(|| counters.sum(Counter::Passed)),
            in_flight: self.in_flight.load(Ordering::Relaxed),
            waiting: self.lines.waiting(),
            detached: self.detached.running(),
            store: self.store.held(),
        }
    }

    fn common(&self) -> &Common {
        &self.config.common
    }

    fn detached(&self) -> &Arc<Detached> {
        &self.detached
    }
}

/// A snapshot of an idempotency layer.
///
/// Every call with a key is counted once in `started`, `replayed`, `refused` or `unprotected` when that
/// is decided; one that is dropped before is in none. A call that begins detached and is refused is in
/// `started` and `refused`.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub struct Stats {
    /// Calls that got their key: first calls, and those that run in the place of one that failed.
    pub started: u64,
    /// Calls that got the answer of another.
    pub replayed: u64,
    /// Calls that waited for another, however that ended.
    pub waited: u64,
    /// Calls that were refused, for whatever reason.
    pub refused: u64,
    /// Those of them whose key belongs to another request.
    pub mismatched: u64,
    /// Calls that waited, and then ran because the one they waited for left no answer.
    pub taken_over: u64,
    /// Calls that got their key and left no answer: failed, panicked, or dropped.
    pub failed: u64,
    /// Calls whose key was taken over by somebody else while they ran.
    pub fenced: u64,
    /// Calls that did their work and whose result could not be kept: too large, or not to be encoded.
    pub not_kept: u64,
    /// Operations of the store that failed.
    pub store_failed: u64,
    /// Calls that ran unprotected because the store had failed.
    pub unprotected: u64,
    /// Calls without a key; `None` unless [`count_calls`](super::Config::count_calls) is on.
    pub passed: Option<u64>,
    /// Calls that have their key now.
    pub in_flight: usize,
    /// Calls that wait for another now.
    pub waiting: usize,
    /// Handlers that run detached now.
    pub detached: u32,
    /// What the store holds; `None` for stores that do not count it.
    pub store: Option<Size>,
}
