//! What every service of one layer shares, and the guards of a call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::state::Permits;
use crate::counters::Counters;
use crate::error::Error;
use crate::invalid_config::InvalidConfig;
use crate::observe::Common;
use crate::queue::{Ask, Joined, Place, WaitQueue};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

pub(super) const REFUSED: usize = 0;
pub(super) const TIMED_OUT: usize = 1;
pub(super) const ADMITTED: usize = 2;
/// Stands in `max_wait` for "as long as the caller does".
pub(super) const FOREVER: u64 = u64::MAX;

/// What is counted and told, by one bulkhead or by all of a keyed layer.
#[derive(Debug)]
pub(super) struct Telemetry {
    pub(super) counters: Counters<3>,
    pub(super) common: Common,
}

impl Telemetry {
    pub(super) fn new(config: &Config) -> Arc<Self> {
        Arc::new(Self { counters: Counters::new(), common: config.common.clone() })
    }

    /// Counts and tells a refusal that is being handed out.
    pub(super) fn refuse(&self, error: Error) -> Error {
        self.counters.add(REFUSED);
        self.common.refused(&error);
        error
    }

    pub(super) fn refused(&self) -> u64 {
        self.counters.sum(REFUSED)
    }
}

/// What every service of one bulkhead shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) permits: Permits,
    pub(super) queue: WaitQueue,
    pub(super) capacity: AtomicUsize,
    pub(super) max_wait: AtomicU64,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        Ok(Self::with_telemetry(config, Telemetry::new(config)))
    }

    /// `config` must have been checked.
    pub(super) fn with_telemetry(config: &Config, telemetry: Arc<Telemetry>) -> Arc<Self> {
        let shared = Self {
            permits: Permits::new(config.max_concurrent),
            queue: WaitQueue::new(),
            capacity: AtomicUsize::new(0),
            max_wait: AtomicU64::new(FOREVER),
            telemetry,
        };
        shared.apply(config);
        Arc::new(shared)
    }

    pub(super) fn apply(&self, config: &Config) {
        self.permits.resize(config.max_concurrent);
        self.capacity.store(config.queue as usize, Ordering::Relaxed);
        let wait = config.max_wait.map_or(FOREVER, crate::clock::to_nanos);
        self.max_wait.store(wait, Ordering::Relaxed);
    }

    pub(super) fn try_acquire(self: &Arc<Self>) -> Option<Permit> {
        self.permits.try_take().then(|| self.permit())
    }

    /// The guard of a permit that was taken.
    fn permit(self: &Arc<Self>) -> Permit {
        if self.telemetry.common.count_calls {
            self.telemetry.counters.add(ADMITTED);
        }
        Permit { shared: self.clone() }
    }

    /// Whether a call would be refused now, by a bulkhead without and with a queue.
    pub(super) fn is_full(&self) -> bool {
        self.permits.is_full()
    }

    pub(super) fn is_full_with_queue(&self) -> bool {
        self.is_full() && self.queue.gauges().0 >= self.capacity.load(Ordering::Relaxed)
    }

    pub(super) fn full(&self) -> Error {
        Error::bulkhead_full(self.telemetry.common.name, self.permits.limit())
    }

    pub(super) fn refuse(&self, error: Error) -> Error {
        self.telemetry.refuse(error)
    }

    /// A permit, or a place in the queue, or a refusal.
    pub(super) fn acquire_or_wait(self: &Arc<Self>) -> Result<Waiting, Error> {
        self.join(self.capacity.load(Ordering::Relaxed), self.max_wait())
    }

    /// A permit, or a place that is kept as long as it takes.
    pub(super) fn acquire_or_park(self: &Arc<Self>) -> Result<Waiting, Error> {
        self.join(usize::MAX, None)
    }

    fn join(self: &Arc<Self>, capacity: usize, wait: Option<Duration>) -> Result<Waiting, Error> {
        if let Some(permit) = self.try_acquire() {
            return Ok(Waiting::Done(permit));
        }
        let clock = &self.telemetry.common.clock;
        let ask = Ask { cost: 1, capacity, longest: wait };
        match self.queue.join(&self.permits, ask, clock, clock.now(), |_| true) {
            Joined::Granted => Ok(Waiting::Done(self.permit())),
            Joined::Waiting(place) => {
                Ok(Waiting::Queued(QueuePlace { place: Some(place), shared: self.clone() }))
            }
            Joined::Full => Err(self.refuse(self.full())),
        }
    }

    pub(super) fn max_wait(&self) -> Option<Duration> {
        match self.max_wait.load(Ordering::Relaxed) {
            FOREVER => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }

    fn release(&self) {
        if self.permits.give_back() {
            self.queue.pump(&self.permits, &self.telemetry.common.clock);
        }
    }
}

/// The right to run one call. Dropping it gives it back.
#[must_use = "dropping a permit gives it back at once"]
pub struct Permit {
    shared: Arc<Shared>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.release();
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit").field("layer", &self.shared.telemetry.common.name).finish()
    }
}

/// How asking for a permit went.
#[derive(Debug)]
pub(super) enum Waiting {
    Done(Permit),
    Queued(QueuePlace),
}

/// A place in the queue of a bulkhead. Dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct QueuePlace {
    /// `None` once settled.
    place: Option<Place>,
    shared: Arc<Shared>,
}

impl QueuePlace {
    pub(super) fn poll(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<Permit, Error>> {
        let shared = &self.shared;
        let Some(place) = &self.place else { return std::task::Poll::Pending };
        let Telemetry { counters, common } = &*shared.telemetry;
        let settled = shared.queue.poll(&shared.permits, place, &common.clock, cx);
        settled.map(|settled| {
            self.place = None;
            match settled {
                Ok(()) => Ok(shared.permit()),
                Err(_) => {
                    let waited = shared.max_wait().unwrap_or_default();
                    let error = Error::queue_timeout(common.name, waited);
                    counters.add(TIMED_OUT);
                    common.refused(&error);
                    Err(error)
                }
            }
        })
    }
}

impl Drop for QueuePlace {
    fn drop(&mut self) {
        if let Some(place) = self.place.take() {
            let shared = &self.shared;
            if shared.queue.leave(&shared.permits, &place, &shared.telemetry.common.clock) {
                shared.release();
            }
        }
    }
}
