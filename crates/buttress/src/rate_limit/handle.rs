use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::shared::{Counter, Refill, Shared};
use crate::machinery::queue::Gauges;
use crate::machinery::reconfigure::{Reconfigure as _, has_handle, operated};
use crate::machinery::waiting::{Limiter as _, Waiting};
use crate::sync::lock;
#[cfg(feature = "serde")]
use crate::vocabulary::duration_text;
use crate::vocabulary::error::Error;
use crate::vocabulary::reading::snapshot;

/// The handle of a rate limiter, for operators and for use without tower. Cheap to clone.
///
/// All clones, and every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Takes `cost` tokens if they are available and no call waits for tokens.
    ///
    /// # Errors
    /// Returns [`RateLimited`](crate::ErrorKind::RateLimited) otherwise, with the exact time until
    /// the tokens are available. The time is absent if `cost` is more than the limiter can ever
    /// hold.
    pub fn try_acquire(&self, cost: u32) -> Result<(), Error> {
        let taken = self.shared.try_take(cost).map(|_spent| ());
        taken.map_err(|retry_after| self.shared.refuse(retry_after))
    }

    /// Takes `cost` tokens. Waits for them in the queue, within the configured bounds.
    ///
    /// # Panics
    /// If it has to wait by tokio's clock outside of a runtime that has its time driver enabled.
    ///
    /// # Cancel safety
    /// A dropped future leaves the queue, and returns tokens that were just granted.
    ///
    /// # Errors
    /// Returns [`RateLimited`](crate::ErrorKind::RateLimited), without waiting, if the wait would
    /// be too long or the queue is full. Returns [`QueueTimeout`](crate::ErrorKind::QueueTimeout)
    /// after the longest wait, which happens only if the rate was lowered during the wait.
    pub async fn acquire(&self, cost: u32) -> Result<(), Error> {
        let tokens = match self.shared.take_or_wait(cost)? {
            Waiting::Done(tokens) => tokens,
            Waiting::Queued(mut place) => std::future::poll_fn(|cx| place.poll(cx)).await?,
        };
        let _spent = tokens.spend();
        Ok(())
    }

    /// Checks whether a call of one token would be admitted now. It takes and counts nothing.
    ///
    /// # Errors
    /// Returns the refusal: [`RateLimited`](crate::ErrorKind::RateLimited).
    pub fn check(&self) -> Result<(), Error> {
        match self.shared.peek() {
            Some(retry_after) => Err(self.shared.error(retry_after)),
            None => Ok(()),
        }
    }

    /// Returns how many whole tokens are available now. It takes none.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.shared.limiter.available(self.shared.common.clock.now())
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let Gauges { waiting, peak, .. } = shared.queue.gauges();
        let Refill { tokens, period } = *lock(&shared.refill);
        let now = shared.common.clock.now();
        Stats {
            available: shared.limiter.available(now),
            max_tokens: shared.limiter.max_tokens(),
            refill_tokens: tokens,
            refill_period: period,
            full_in: shared.limiter.full_in(now),
            queued: waiting,
            peak_queued: peak,
            refused: shared.counters.sum(Counter::Refused),
            queue_timeouts: shared.counters.sum(Counter::TimedOut),
            admitted: shared.common.count_calls.then(|| shared.counters.sum(Counter::Admitted)),
        }
    }
}

has_handle!();

operated! {
    /// Changes rate, size, queue and waits to the values of `config`.
    ///
    /// The level stays: a limit that was used up before the change is used up after it. A larger
    /// bucket fills at its rate. In a fixed window, the addition of a larger limit becomes
    /// available with the next window. In a sliding window, it becomes available one period after
    /// the change. A smaller limit holds immediately.
    ///
    /// # Errors
    /// Returns the errors of [`RateLimitLayer::new`](super::RateLimitLayer::new), and an error for
    /// a change of the policy. Nothing changes then.
    pub fn reconfigure(&self, config: &Config);
}

snapshot! {
    /// A snapshot of a rate limiter.
    pub struct Stats: Copy + Eq {
        /// Whole tokens that are available now.
        pub available: u32,
        /// The size of the bucket or window in force.
        pub max_tokens: u32,
        /// How many tokens are refilled in [`refill_period`](Self::refill_period).
        pub refill_tokens: u32,
        /// The time in which [`refill_tokens`](Self::refill_tokens) tokens are refilled. For a window
        /// policy, the length of a window.
        #[cfg_attr(feature = "serde", serde(serialize_with = "duration_text::serialize"))]
        pub refill_period: Duration,
        /// The time until all tokens are refilled, if no call takes any.
        #[cfg_attr(feature = "serde", serde(serialize_with = "duration_text::serialize"))]
        pub full_in: Duration,
        /// Calls that wait now.
        pub queued: usize,
        /// The most calls that ever waited at the same time.
        pub peak_queued: usize,
        /// Calls that the limiter refused.
        pub refused: u64,
        /// Calls whose longest wait ended without tokens, because the rate was lowered meanwhile.
        pub queue_timeouts: u64,
        /// Calls admitted. `None` unless [`count_calls`](super::Config::count_calls) is on.
        pub admitted: Option<u64>,
    }
}
