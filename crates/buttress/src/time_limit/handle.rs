use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use super::countdown::Countdown;
use super::future::Limited;
use super::shared::{Counter, Shared};
use crate::machinery::reconfigure::{Reconfigure as _, operated};
#[cfg(feature = "serde")]
use crate::vocabulary::duration_text;
use crate::vocabulary::reading::snapshot;

/// The handle of a time limit, for operators and for use without tower. Cheap to clone.
///
/// All clones, and every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Runs `future` with the limit, counted from this call.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use buttress::time_limit::{Config, TimeLimitLayer};
    /// let limit = TimeLimitLayer::new(Config::new(Duration::from_millis(100)))?.handle();
    /// assert_eq!(limit.run(async { 1 }).await?, 1);
    /// assert!(limit.run(std::future::pending::<()>()).await.is_err());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns [`TimedOut`](crate::ErrorKind::TimedOut) if `future` is still running at the end of the limit. Returns
    /// [`DeadlineExceeded`](crate::ErrorKind::DeadlineExceeded) if the deadline of the request comes first. `future` is
    /// then dropped.
    pub fn run<F: Future>(&self, future: F) -> Limited<F> {
        Shared::begin(&self.shared, None, || future)
    }

    /// Begins a limit for work that is not one future. The time counts from this call.
    ///
    /// `deadline` is an instant of the layer's clock. If it comes before the end of the limit, it is the end.
    /// [`Context::deadline`](crate::context::Context::deadline) returns the deadline of the running request.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// use std::{future::poll_fn, time::Duration};
    /// use buttress::time_limit::TimeLimitLayer;
    /// let limit = TimeLimitLayer::after(Duration::from_millis(100)).handle();
    /// let mut countdown = limit.countdown(None);
    /// poll_fn(|cx| countdown.poll_over(cx)).await;
    /// assert_eq!(countdown.time_out().to_string(), "time limit of 100ms passed");
    /// assert_eq!(limit.stats().timed_out, 1);
    /// # }
    /// ```
    #[must_use]
    pub fn countdown(&self, deadline: Option<Instant>) -> Countdown {
        self.shared.count();
        Countdown::new(self.shared.clone(), deadline)
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let Shared { counters, common, .. } = &*self.shared;
        Stats {
            limit: self.shared.limit(),
            timed_out: counters.sum(Counter::TimedOut),
            calls: common.count_calls.then(|| counters.sum(Counter::Calls)),
        }
    }
}

operated! {
    /// Replaces the limit with the limit of `config`, for calls that begin from now on.
    ///
    /// # Errors
    /// Returns the errors of [`TimeLimitLayer::new`](super::TimeLimitLayer::new). Nothing changes then.
    pub fn reconfigure(&self, config: &Config);
}

snapshot! {
    /// A snapshot of a time limit.
    pub struct Stats: Copy + Eq {
        /// The limit in force.
        #[cfg_attr(feature = "serde", serde(serialize_with = "duration_text::serialize"))]
        pub limit: Duration,
        /// Calls that were cancelled at their limit.
        pub timed_out: u64,
        /// The number of calls that have begun. `None` unless [`count_calls`](Config::count_calls) is on.
        pub calls: Option<u64>,
    }
}
