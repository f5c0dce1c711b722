//! The state that the services of one layer share, and the guards of a call.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::config::Config;
use super::state::Permits;
use crate::context::wait_until_deadline;
use crate::machinery::counters::{Counters, counters};
use crate::machinery::guard::Guard;
use crate::machinery::limited::Held;
use crate::machinery::own::{Counted, Own};
use crate::machinery::queue::{Ask, NotGranted, WaitQueue};
use crate::machinery::reconfigure::Reconfigure;
use crate::machinery::waiting::{self, Limiter, Outlook, Waiting};
use crate::sync::{AtomicU64, AtomicUsize, Ordering};
use crate::vocabulary::classify::Outcome;
use crate::vocabulary::clock::{self, Clock};
use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::Common;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::until::{Open, OpenCall};

counters! {
    /// The counters of a bulkhead, or of all bulkheads of a keyed layer.
    pub(super) enum Counter {
        Refused,
        TimedOut,
        Admitted,
        TooManyKeys,
    }
}

/// The value of `max_wait` for an unbounded wait.
pub(super) const FOREVER: u64 = u64::MAX;

/// The counters and reports of one bulkhead, or of all bulkheads of a keyed layer.
#[derive(Debug)]
pub struct Telemetry {
    pub(super) counters: Counters<Counter>,
    pub(super) common: Common,
}

impl Telemetry {
    /// `common` is what [`Common::of`] or [`Common::of_keys`] returns.
    pub(super) fn new(common: Common) -> Arc<Self> {
        Arc::new(Self { counters: Counters::new(), common })
    }

    /// Counts and reports a refusal.
    #[inline(never)]
    fn note_refusal(&self, limit: u32) {
        self.counters.add(Counter::Refused);
        self.common.refused(|| Error::bulkhead_full(self.common.name, limit));
    }
}

/// The state that the services of one bulkhead share.
#[derive(Debug)]
pub struct Shared {
    pub(super) permits: Permits,
    /// Every call reads it, so it is here and not behind another pointer.
    count_calls: bool,
    pub(super) queue: WaitQueue<Permits>,
    pub(super) capacity: AtomicUsize,
    pub(super) max_wait: AtomicU64,
    pub(super) claim_within: AtomicU64,
    pub(super) telemetry: Arc<Telemetry>,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        Ok(Self::made(config, Telemetry::new(config.common.of(Pattern::Bulkhead))))
    }

    /// `config` must have been checked.
    pub(super) fn made(config: &Config, telemetry: Arc<Telemetry>) -> Arc<Self> {
        let shared = Self {
            permits: Permits::new(config.max_concurrent),
            count_calls: telemetry.common.count_calls,
            queue: WaitQueue::new(),
            capacity: AtomicUsize::new(0),
            max_wait: AtomicU64::new(FOREVER),
            claim_within: AtomicU64::new(0),
            telemetry,
        };
        shared.apply(config);
        Arc::new(shared)
    }

    #[inline(always)]
    pub(super) fn try_acquire<O: Own>(this: &O::Of<Self>) -> Option<Permit<O>> {
        this.permits.try_take().then(|| Permit { shared: Some(this.clone()) })
    }

    /// Returns `true` if a bulkhead without a queue would refuse a call now.
    #[inline(always)]
    pub(super) fn is_full(&self) -> bool {
        self.permits.is_full()
    }

    #[inline]
    pub(super) fn full(&self) -> Error {
        Error::bulkhead_full(self.telemetry.common.name, self.permits.limit())
    }

    /// Returns the refusal for the caller, after it has counted and reported it.
    #[inline(always)]
    pub(super) fn refuse(&self) -> Error {
        let limit = self.permits.limit();
        self.telemetry.note_refusal(limit);
        Error::bulkhead_full(self.telemetry.common.name, limit)
    }

    fn ask(
        self: &Arc<Self>,
        capacity: usize,
        longest: Option<Duration>,
    ) -> Result<Waiting<Self>, Error> {
        if let Some(permit) = Self::try_acquire::<Counted>(self) {
            return Ok(Waiting::Done(permit));
        }
        let claim = Some(Duration::from_nanos(self.claim_within.load(Ordering::Relaxed)));
        let ask = Ask { cost: 1, capacity, longest, claim };
        Waiting::join(self, ask, |_, _| true).ok_or_else(|| self.refuse())
    }

    /// Serves the waiters after a permit became free.
    #[cold]
    fn serve_waiting(&self) {
        waiting::settle(self);
    }

    fn max_wait(&self) -> Option<Duration> {
        match self.max_wait.load(Ordering::Relaxed) {
            FOREVER => None,
            nanos => Some(Duration::from_nanos(nanos)),
        }
    }
}

/// The right to run one call. Dropping it returns the permit.
#[must_use = "dropping a permit returns it immediately"]
pub struct Permit<O: Own = Counted> {
    /// `None` once returned.
    shared: Option<O::Of<Shared>>,
}

impl<O: Own> Permit<O> {
    /// Counts the call, which begins now.
    #[inline]
    pub(super) fn begin(self) -> Self {
        if let Some(shared) = &self.shared {
            if shared.count_calls {
                shared.telemetry.counters.add(Counter::Admitted);
            }
        }
        self
    }
}

impl<O: Own> Held for Permit<O> {
    const FUTURE: &'static str = "bulkhead::ResponseFuture";

    #[inline(always)]
    fn end(&mut self) {
        if let Some(shared) = self.shared.take() {
            if shared.permits.give_back() {
                shared.serve_waiting();
            }
        }
    }

    fn hold(&mut self) -> Option<OpenCall> {
        self.shared.take().map(|shared| OpenCall::new(Self { shared: Some(shared) }))
    }
}

impl<O: Own> Open for Permit<O> {
    fn end(self: Box<Self>, _outcome: Outcome) {
        drop(self);
    }

    fn abandon(self: Box<Self>) {
        drop(self);
    }
}

impl<O: Own> Guard for Permit<O> {
    #[inline]
    fn give_back(&mut self) {
        if let Some(shared) = self.shared.take() {
            take_back::<O>(shared);
        }
    }
}

impl<O: Own> Drop for Permit<O> {
    #[inline]
    fn drop(&mut self) {
        self.give_back();
    }
}

/// Returns the permit of a call that was dropped before its end. Out of line, so that dropping a
/// completed future only compares one word.
#[inline(never)]
fn take_back<O: Own>(shared: O::Of<Shared>) {
    if shared.permits.give_back() {
        shared.serve_waiting();
    }
}

impl<O: Own> fmt::Debug for Permit<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.shared.as_ref().map(|shared| shared.telemetry.common.name);
        f.debug_struct("Permit").field("layer", &name.unwrap_or_default()).finish()
    }
}

impl Limiter for Shared {
    type Pass = Permit;
    type Held = Permit;
    type Resource = Permits;

    fn resource(&self) -> &Permits {
        &self.permits
    }

    fn queue(&self) -> &WaitQueue<Permits> {
        &self.queue
    }

    fn clock(&self) -> &Clock {
        &self.telemetry.common.clock
    }

    #[inline(always)]
    fn pass(self: &Arc<Self>, _cost: u32, (): ()) -> Permit {
        Permit { shared: Some(self.clone()) }
    }

    fn begin(permit: Permit) -> Permit {
        permit.begin()
    }

    fn wait_failed(&self, _cost: u32, _why: NotGranted, longest: Option<Duration>) -> Error {
        let waited = longest.unwrap_or_default();
        let error = Error::queue_timeout(self.telemetry.common.name, waited);
        self.telemetry.counters.add(Counter::TimedOut);
        self.telemetry.common.refused(|| error.clone());
        error
    }

    fn outlook(&self) -> Outlook {
        if !self.is_full() {
            Outlook::Admitted
        } else if self.queue.gauges().waiting < self.capacity.load(Ordering::Relaxed) {
            Outlook::Waits
        } else {
            Outlook::Refused
        }
    }

    fn take_or_wait(self: &Arc<Self>, _cost: u32) -> Result<Waiting<Self>, Error> {
        let longest = wait_until_deadline(self.max_wait(), || self.clock().now());
        self.ask(self.capacity.load(Ordering::Relaxed), longest)
    }

    fn take_or_park(self: &Arc<Self>) -> Result<Waiting<Self>, Error> {
        self.ask(usize::MAX, None)
    }

    fn take(self: &Arc<Self>) -> Result<Permit, Error> {
        Self::try_acquire::<Counted>(self).map(Permit::begin).ok_or_else(|| self.refuse())
    }

    fn refuse_as_foreseen(&self, _cost: u32) -> Error {
        self.refuse()
    }
}

impl Reconfigure for Shared {
    type Config = Config;

    fn config(&self) -> Config {
        Config {
            max_concurrent: self.permits.limit(),
            queue: self.capacity.load(Ordering::Relaxed) as u32,
            max_wait: self.max_wait(),
            claim_within: Duration::from_nanos(self.claim_within.load(Ordering::Relaxed)),
            common: self.telemetry.common.clone(),
        }
    }

    fn accepts(_old: &Config, new: &Config) -> Result<(), InvalidConfig> {
        new.check()
    }

    fn apply(&self, config: &Config) {
        self.permits.resize(config.max_concurrent);
        self.capacity.store(config.queue as usize, Ordering::Relaxed);
        let wait = config.max_wait.map_or(FOREVER, clock::to_nanos);
        self.max_wait.store(wait, Ordering::Relaxed);
        let claim = clock::to_nanos(config.claim_within);
        self.claim_within.store(claim, Ordering::Relaxed);
    }

    fn serve(&self) {
        waiting::settle(self);
    }

    fn common(&self) -> &Common {
        &self.telemetry.common
    }
}
