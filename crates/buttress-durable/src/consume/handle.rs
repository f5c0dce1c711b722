//! [`ConsumerHandle`]: the operator's handle of a consumer.

use std::fmt;
use std::sync::Arc;

use buttress::{Name, StoreError};

use super::consumer::{ReplayRequest, Shared};
use super::letter::Select;
use super::stats::Stats;
use crate::alive::Alive;

/// The operator's handle of a consumer. Cheap to clone.
#[derive(Clone)]
pub struct ConsumerHandle {
    shared: Arc<Shared>,
    alive: Alive,
}

impl ConsumerHandle {
    pub(super) fn new(shared: Arc<Shared>, alive: Alive) -> Self {
        Self { shared, alive }
    }

    /// Starts no further handler until [`resume`](Self::resume). Handlers that run end as usual, and are settled.
    ///
    /// The consumer keeps its place in the group and the messages that it holds. It asks the transport for no more.
    pub fn pause(&self) {
        self.shared.ask(|control| control.paused = true);
    }

    /// Ends a pause.
    pub fn resume(&self) {
        self.shared.ask(|control| control.paused = false);
    }

    /// Returns `true` between [`pause`](Self::pause) and [`resume`](Self::resume).
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.shared.control().paused
    }

    /// Returns `true` once the consumer has ended, or was dropped.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.alive.has_ended()
    }

    /// Returns a snapshot of the counters.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.shared.control().stats.clone()
    }

    /// Replays dead letters of the consumer's group, in the order in which they died. Returns how many were found.
    ///
    /// The consumer hands each letter to its handler once this future has returned, as it has room. A letter whose
    /// handler succeeds is removed. Otherwise the letter stays, and its count of replays grows.
    ///
    /// A key belongs to one replay at a time, also if this consumer runs both replays. Letters of a key that another replay
    /// has claimed are found, and left out of this replay. [`Stats::left_out`] counts them. They stay in the store: replay
    /// them again.
    ///
    /// # Errors
    /// Returns the error of the store. Returns a transient error if the consumer ends before it has looked for the
    /// letters.
    ///
    /// # Cancel safety
    /// The consumer replays the letters also if the future is dropped.
    pub async fn replay(&self, select: Select) -> Result<usize, StoreError> {
        let ask = |answer| {
            let request = ReplayRequest { select, answer };
            self.shared.ask(|control| control.replays.push_back(request));
        };
        let ended = || StoreError::transient("replaying dead letters: the consumer has ended");
        self.alive.answer(ask, ended).await
    }

    /// Shuts the consumer down, and waits for its end.
    ///
    /// The consumer starts no handler, waits up to [`Config::drain`](super::Config::drain) for the running ones,
    /// settles the messages that are handled, and returns the others to the transport. Also returns if the consumer is
    /// dropped.
    pub async fn shut_down(&self) {
        self.shared.ask(|control| control.shutting_down = true);
        self.alive.ended().await;
    }

    pub(super) fn layer(&self) -> Name {
        self.shared.layer
    }

    /// Returns the operations that fail now, and their last errors.
    pub(super) fn troubles(&self) -> Vec<(&'static str, String)> {
        self.shared.control().troubles.clone()
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerHandle")
            .field("layer", &self.layer())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
