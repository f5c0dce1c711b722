use std::fmt;
use std::sync::Arc;

use super::shared::{Counter, Shared};
use super::store::Size;
use super::tasks::Tasks;
use crate::sync::Ordering;
use crate::vocabulary::observe::Common;
use crate::vocabulary::reading::snapshot;

/// The handle of an idempotency layer, for operators. Cheap to clone.
///
/// All clones, and every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    view: Arc<dyn View>,
}

/// A layer without the type of its values.
trait View: Send + Sync {
    fn stats(&self) -> Stats;
    fn common(&self) -> &Common;
    fn tasks(&self) -> &Arc<Tasks>;
}

impl Handle {
    pub(super) fn new<V: Send + 'static>(shared: Arc<Shared<V>>) -> Self {
        Self { view: shared }
    }

    /// Stops starting handlers, and waits until the running [detached](super::IdempotencyLayer::detached)
    /// handlers have ended.
    ///
    /// Calls that need a new run of the handler are refused with
    /// [`ShuttingDown`](crate::ErrorKind::ShuttingDown). Stored answers are still returned. A drain
    /// cannot be undone. A layer that does not run its handlers detached has no handler to wait
    /// for, and continues to start handlers.
    ///
    /// # Cancel safety
    /// Dropping the future ends the wait. The layer still starts no handler.
    pub async fn drain(&self) {
        self.view.tasks().drain().await;
    }

    pub(super) fn common(&self) -> &Common {
        self.view.common()
    }

    /// Returns a snapshot of the statistics.
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
            waiting: self.waiters.waiting(),
            detached: self.tasks.running(),
            store: self.store.held(),
        }
    }

    fn common(&self) -> &Common {
        &self.config.common
    }

    fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }
}

snapshot! {
    /// A snapshot of an idempotency layer.
    ///
    /// Every call with a key is counted once in `started`, `replayed`, `refused` or `unprotected`, when
    /// that is decided. A call that is dropped earlier is not counted. A call that begins detached and
    /// is then refused is in `started` and `refused`.
    pub struct Stats: Copy + Eq {
        /// Calls that got their key: first calls, and calls that run in place of a failed call.
        pub started: u64,
        /// Calls that got the answer of another call.
        pub replayed: u64,
        /// Calls that waited for another call, with any result.
        pub waited: u64,
        /// Calls that were refused, for any reason.
        pub refused: u64,
        /// Refused calls whose key belongs to another request.
        pub mismatched: u64,
        /// Calls that waited for another call, and then ran because that call left no answer.
        pub taken_over: u64,
        /// Calls that got their key and left no answer: they failed, panicked, or were dropped.
        pub failed: u64,
        /// Calls whose renewal, answer or [`complete_in`](super::Claim::complete_in) the store refused,
        /// because another call took the key over. They are not in `failed`.
        pub fenced: u64,
        /// Calls that did their work, but whose result was too large or could not be encoded.
        pub not_kept: u64,
        /// Operations of the store that failed. A renewal that does not get through while a transaction
        /// completes the claim is not counted: the transaction locks the row.
        pub store_failed: u64,
        /// Calls that ran unprotected because the store had failed.
        pub unprotected: u64,
        /// Calls without a key. `None` unless [`count_calls`](super::Config::count_calls) is on.
        pub passed: Option<u64>,
        /// Calls that have their key now.
        pub in_flight: usize,
        /// Calls that wait for another call now.
        pub waiting: usize,
        /// Handlers that run detached now.
        pub detached: u32,
        /// The contents of the store. `None` if the store does not count them.
        pub store: Option<Size>,
    }
}
