use std::sync::Arc;

use super::config::Config;
use super::shared::{Counter, Permit, Shared, Telemetry};
use crate::machinery::own::Counted;
use crate::machinery::queue::Gauges;
use crate::machinery::reconfigure::{Reconfigure as _, has_handle, operated};
use crate::machinery::waiting::{Limiter as _, Waiting};
use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::reading::snapshot;

/// The handle of a bulkhead, for operators and for use without tower. Cheap to clone.
///
/// All clones, and every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Returns a permit if one is free and no call waits for it.
    ///
    /// ```
    /// use buttress::bulkhead::BulkheadLayer;
    /// let handle = BulkheadLayer::default().handle();
    /// let permit = handle.try_acquire()?;
    /// assert_eq!(handle.stats().active, 1);
    /// drop(permit);
    /// assert_eq!(handle.stats().active, 0);
    /// # Ok::<(), buttress::Error>(())
    /// ```
    ///
    /// # Errors
    /// Returns [`BulkheadFull`](crate::ErrorKind::BulkheadFull) otherwise.
    pub fn try_acquire(&self) -> Result<Permit, Error> {
        let permit = Shared::try_acquire::<Counted>(&self.shared).map(Permit::begin);
        permit.ok_or_else(|| self.shared.refuse())
    }

    /// Checks whether a bulkhead without a queue would admit a call now. It takes and counts
    /// nothing.
    ///
    /// # Errors
    /// Returns the refusal: [`BulkheadFull`](crate::ErrorKind::BulkheadFull).
    pub fn check(&self) -> Result<(), Error> {
        if self.shared.is_full() { Err(self.shared.full()) } else { Ok(()) }
    }

    /// Returns a permit. Waits for it in the queue, within the configured bounds.
    ///
    /// # Panics
    /// If it has to wait by tokio's clock outside of a runtime that has its time driver enabled.
    ///
    /// # Cancel safety
    /// A dropped future leaves the queue, and releases a permit that was just granted.
    ///
    /// # Errors
    /// Returns [`BulkheadFull`](crate::ErrorKind::BulkheadFull) if the queue is full, and
    /// [`QueueTimeout`](crate::ErrorKind::QueueTimeout) after the longest wait.
    pub async fn acquire(&self) -> Result<Permit, Error> {
        let permit = match self.shared.take_or_wait(1)? {
            Waiting::Done(permit) => permit,
            Waiting::Queued(mut place) => std::future::poll_fn(|cx| place.poll(cx)).await?,
        };
        Ok(permit.begin())
    }

    /// Changes how many calls run concurrently. Never blocks. Running calls continue, and a smaller
    /// limit takes effect as they end. A larger limit admits waiting calls immediately.
    ///
    /// # Errors
    /// Returns an error for a limit of 0. Nothing changes then.
    pub fn resize(&self, max_concurrent: u32) -> Result<(), InvalidConfig> {
        crate::vocabulary::invalid_config::check_at_least("max-concurrent", max_concurrent, 1)?;
        self.shared.permits.resize(max_concurrent);
        self.shared.announce();
        Ok(())
    }

    /// Returns a snapshot of the statistics.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let Telemetry { counters, common } = &*shared.telemetry;
        let Gauges { waiting, peak, .. } = shared.queue.gauges();
        Stats {
            active: shared.permits.active(),
            queued: waiting,
            peak_active: shared.permits.peak(),
            peak_queued: peak,
            max_concurrent: shared.permits.limit(),
            refused: counters.sum(Counter::Refused),
            queue_timeouts: counters.sum(Counter::TimedOut),
            admitted: common.count_calls.then(|| counters.sum(Counter::Admitted)),
        }
    }
}

has_handle!();

operated! {
    /// Replaces limit, queue and waits with the values of `config`. Permits and places in the queue
    /// stay.
    ///
    /// # Errors
    /// Returns the errors of [`BulkheadLayer::new`](super::BulkheadLayer::new). Nothing changes
    /// then.
    pub fn reconfigure(&self, config: &Config);
}

snapshot! {
    /// A snapshot of a bulkhead.
    pub struct Stats: Copy + Eq {
        /// Calls that run now, and permits in use.
        pub active: u32,
        /// Calls that wait now.
        pub queued: usize,
        /// The most calls that ever ran concurrently.
        pub peak_active: u32,
        /// The most calls that ever waited at the same time.
        pub peak_queued: usize,
        /// The limit in force.
        pub max_concurrent: u32,
        /// Calls refused because every permit, and every place in the queue, was taken.
        pub refused: u64,
        /// Calls refused after their longest wait in the queue.
        pub queue_timeouts: u64,
        /// Permits granted. `None` unless [`count_calls`](super::Config::count_calls) is on.
        pub admitted: Option<u64>,
    }
}
