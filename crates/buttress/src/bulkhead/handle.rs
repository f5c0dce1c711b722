use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::state::Permits;
use crate::counters::Counters;
use crate::error::{Error, InvalidConfig};
use crate::observe::Common;
use crate::queue::{Ask, Joined, Place, WaitQueue};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

const REFUSED: usize = 0;
const TIMED_OUT: usize = 1;
const ADMITTED: usize = 2;
/// Stands in `max_wait` for "as long as the caller does".
const FOREVER: u64 = u64::MAX;

/// What is counted and told, by one bulkhead or by all of a keyed layer.
#[derive(Debug)]
pub(super) struct Telemetry {
    counters: Counters<3>,
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
    permits: Permits,
    queue: WaitQueue,
    capacity: AtomicUsize,
    max_wait: AtomicU64,
    telemetry: Arc<Telemetry>,
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

    fn max_wait(&self) -> Option<Duration> {
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

/// The operator's view of a bulkhead, and its use without tower. Cheap to clone; all clones, and every
/// service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// A permit if one is free and nobody waits for it.
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
    /// [`BulkheadFull`](crate::ErrorKind::BulkheadFull) otherwise.
    pub fn try_acquire(&self) -> Result<Permit, Error> {
        self.shared.try_acquire().ok_or_else(|| self.shared.refuse(self.shared.full()))
    }

    /// Whether a call would be refused now, by a bulkhead without a queue, and how. Takes nothing.
    #[must_use]
    pub fn check(&self) -> Option<Error> {
        self.shared.is_full().then(|| self.shared.full())
    }

    /// A permit, waiting in the queue for one within the configured bounds.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue, or gives the permit back if it had just been granted.
    ///
    /// # Errors
    /// [`BulkheadFull`](crate::ErrorKind::BulkheadFull) if the queue is full,
    /// [`QueueTimeout`](crate::ErrorKind::QueueTimeout) after the longest wait.
    pub async fn acquire(&self) -> Result<Permit, Error> {
        match self.shared.acquire_or_wait()? {
            Waiting::Done(permit) => Ok(permit),
            Waiting::Queued(mut place) => std::future::poll_fn(|cx| place.poll(cx)).await,
        }
    }

    /// Changes how many calls run at once. Never blocks: running calls are not disturbed, and a
    /// smaller limit is met as they end. Those who wait are let in at once where there is room.
    ///
    /// # Errors
    /// A limit of 0 is refused and changes nothing.
    pub fn resize(&self, max_concurrent: u32) -> Result<(), InvalidConfig> {
        crate::error::check_at_least("max-concurrent", max_concurrent, 1)?;
        self.shared.permits.resize(max_concurrent);
        self.settle();
        Ok(())
    }

    /// Takes over limit, queue and longest wait from `config`; permits and places stay.
    ///
    /// # Errors
    /// What [`BulkheadLayer::new`](super::BulkheadLayer::new) would refuse is refused and changes
    /// nothing.
    pub fn reconfigure(&self, config: &Config) -> Result<(), InvalidConfig> {
        config.check()?;
        self.shared.apply(config);
        self.settle();
        Ok(())
    }

    /// Whether [`reconfigure`](Self::reconfigure) would take `config`. Changes nothing.
    ///
    /// # Errors
    /// What it would say.
    pub fn accepts(&self, config: &Config) -> Result<(), InvalidConfig> {
        config.check()
    }

    fn settle(&self) {
        let common = &self.shared.telemetry.common;
        self.shared.queue.pump(&self.shared.permits, &common.clock);
        common.reconfigured();
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let Telemetry { counters, common } = &*shared.telemetry;
        let (queued, peak_queued, _) = shared.queue.gauges();
        Stats {
            active: shared.permits.active(),
            queued,
            peak_active: shared.permits.peak(),
            peak_queued,
            max_concurrent: shared.permits.limit(),
            refused: counters.sum(REFUSED),
            queue_timeouts: counters.sum(TIMED_OUT),
            admitted: common.count_calls.then(|| counters.sum(ADMITTED)),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.shared.telemetry.common.name)
            .field("stats", &self.stats())
            .finish()
    }
}

/// A snapshot of a bulkhead.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Calls running now, and permits held.
    pub active: u32,
    /// Calls waiting now.
    pub queued: usize,
    /// The most calls that ever ran at once.
    pub peak_active: u32,
    /// The most calls that ever waited at once.
    pub peak_queued: usize,
    /// The limit in force.
    pub max_concurrent: u32,
    /// Calls refused because everything was taken.
    pub refused: u64,
    /// Calls that kept a place in the queue for the longest wait in vain.
    pub queue_timeouts: u64,
    /// Permits handed out; `None` unless [`count_calls`](super::Config::count_calls) is on.
    pub admitted: Option<u64>,
}
