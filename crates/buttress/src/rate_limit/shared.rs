//! What every service of one layer shares, and the guards of a call.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::config::Config;
use super::state::{Limiter, Short};
use crate::clock;
use crate::counters::Counters;
use crate::error::Error;
use crate::invalid_config::InvalidConfig;
use crate::observe::Common;
use crate::queue::{Ask, Joined, Place, WaitQueue};
use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering};

pub(super) const REFUSED: usize = 0;
pub(super) const TIMED_OUT: usize = 1;
pub(super) const ADMITTED: usize = 2;

/// What every service of one layer shares.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limiter: Limiter,
    pub(super) queue: WaitQueue,
    pub(super) capacity: AtomicUsize,
    pub(super) max_wait: AtomicU64,
    /// Tokens per second, the bits of an `f32`, for messages.
    pub(super) per_second: AtomicU32,
    pub(super) counters: Counters<3>,
    pub(super) common: Common,
    /// Tokens and period of the rate in force. Held while it is changed, so that changes come one
    /// after the other.
    pub(super) refill: Mutex<(u32, Duration)>,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        let shared = Self {
            limiter: Limiter::new(config, config.common.clock.now()),
            queue: WaitQueue::new(),
            capacity: AtomicUsize::new(0),
            max_wait: AtomicU64::new(0),
            per_second: AtomicU32::new(0),
            counters: Counters::new(),
            common: config.common.clone(),
            refill: Mutex::new((config.refill_tokens, config.refill_period)),
        };
        shared.note(config);
        Ok(Arc::new(shared))
    }

    pub(super) fn note(&self, config: &Config) {
        self.capacity.store(config.queue as usize, Ordering::Relaxed);
        self.max_wait.store(clock::to_nanos(config.max_wait), Ordering::Relaxed);
        self.per_second.store(config.per_second().to_bits(), Ordering::Relaxed);
    }

    /// The refusal a call of one token would meet now.
    pub(super) fn peek(&self) -> Option<Error> {
        let short = self.limiter.peek(&self.common.clock).err()?;
        Some(self.error(short, 1, None))
    }

    /// The same where calls may wait: only what could not even wait is refused.
    pub(super) fn peek_queued(&self) -> Option<Error> {
        let short = self.limiter.peek(&self.common.clock).err()?;
        let now = self.common.clock.now();
        (!self.may_wait(1, now)).then(|| self.error(short, 1, Some(now)))
    }

    pub(super) fn may_wait(&self, cost: u32, now: Instant) -> bool {
        let (waiting, _, ahead) = self.queue.gauges();
        waiting < self.capacity.load(Ordering::Relaxed) && self.comes_in_time(ahead, cost, now)
    }

    pub(super) fn comes_in_time(&self, ahead: u64, cost: u32, now: Instant) -> bool {
        self.limiter.wait_for(ahead, cost, now).is_some_and(|wait| wait <= self.max_wait())
    }

    pub(super) fn max_wait(&self) -> Duration {
        Duration::from_nanos(self.max_wait.load(Ordering::Relaxed))
    }

    pub(super) fn try_take(&self, cost: u32) -> Result<(), Error> {
        let now = self.common.clock.now();
        match self.limiter.try_take(cost, now) {
            Ok(()) => {
                self.admitted();
                Ok(())
            }
            Err(short) => Err(self.refuse(self.error(short, cost, Some(now)))),
        }
    }

    fn admitted(&self) {
        if self.common.count_calls {
            self.counters.add(ADMITTED);
        }
    }

    fn error(&self, short: Short, cost: u32, now: Option<Instant>) -> Error {
        let retry_after = match short {
            Short::For(nanos) => Some(Duration::from_nanos(nanos)),
            Short::Never => None,
            Short::Behind => {
                let now = now.unwrap_or_else(|| self.common.clock.now());
                self.limiter.wait_for(self.queue.gauges().2, cost, now)
            }
        };
        let per_second = f32::from_bits(self.per_second.load(Ordering::Relaxed));
        Error::rate_limited(self.common.name, per_second, retry_after)
    }

    /// Counts and tells a refusal that is being handed out.
    pub(super) fn refuse(&self, error: Error) -> Error {
        self.counters.add(REFUSED);
        self.common.refused(&error);
        error
    }

    /// Tokens, or a place in the queue, or a refusal.
    pub(super) fn take_or_wait(self: &Arc<Self>, cost: u32) -> Result<Waiting, Error> {
        let capacity = self.capacity.load(Ordering::Relaxed);
        self.join(cost, capacity, Some(self.max_wait()), |now, ahead| {
            self.comes_in_time(ahead, cost, now)
        })
    }

    /// One token, or a place that is kept as long as it takes.
    pub(super) fn take_or_park(self: &Arc<Self>) -> Result<Waiting, Error> {
        self.join(1, usize::MAX, None, |_, _| true)
    }

    fn join(
        self: &Arc<Self>,
        cost: u32,
        capacity: usize,
        wait: Option<Duration>,
        admits: impl FnOnce(Instant, u64) -> bool,
    ) -> Result<Waiting, Error> {
        let now = self.common.clock.now();
        let short = match self.limiter.try_take(cost, now) {
            Ok(()) => return Ok(Waiting::Done(self.tokens(cost))),
            Err(short) => short,
        };
        let admits = |ahead| short != Short::Never && admits(now, ahead);
        let clock = &self.common.clock;
        let ask = Ask { cost, capacity, longest: wait };
        match self.queue.join(&self.limiter, ask, clock, now, admits) {
            Joined::Granted => Ok(Waiting::Done(self.tokens(cost))),
            Joined::Waiting(place) => {
                Ok(Waiting::Queued(QueuePlace { place: Some(place), cost, shared: self.clone() }))
            }
            Joined::Full => {
                let short = if short == Short::Never { short } else { Short::Behind };
                Err(self.refuse(self.error(short, cost, Some(now))))
            }
        }
    }

    fn tokens(self: &Arc<Self>, cost: u32) -> Tokens {
        self.admitted();
        Tokens { shared: Some(self.clone()), cost }
    }

    fn refund(&self, cost: u32) {
        self.limiter.refund(cost, self.common.clock.now());
        if self.queue.gauges().0 > 0 {
            self.queue.pump(&self.limiter, &self.common.clock);
        }
    }
}

/// Tokens that were taken for a call that has not begun. Dropping them gives them back.
#[derive(Debug)]
#[must_use]
pub(super) struct Tokens {
    shared: Option<Arc<Shared>>,
    cost: u32,
}

impl Tokens {
    /// The call begins.
    pub(super) fn spend(mut self) {
        self.shared = None;
    }
}

impl Drop for Tokens {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.refund(self.cost);
        }
    }
}

/// How asking for tokens went.
#[derive(Debug)]
pub(super) enum Waiting {
    Done(Tokens),
    Queued(QueuePlace),
}

/// A place in the queue of a limiter. Dropping it leaves the queue.
#[derive(Debug)]
pub(super) struct QueuePlace {
    /// `None` once settled.
    place: Option<Place>,
    cost: u32,
    shared: Arc<Shared>,
}

impl QueuePlace {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Tokens, Error>> {
        let shared = &self.shared;
        let Some(place) = &self.place else { return Poll::Pending };
        let settled = shared.queue.poll(&shared.limiter, place, &shared.common.clock, cx);
        settled.map(|settled| {
            self.place = None;
            match settled {
                Ok(()) => Ok(shared.tokens(self.cost)),
                Err(_) => {
                    let error = Error::queue_timeout(shared.common.name, shared.max_wait());
                    shared.counters.add(TIMED_OUT);
                    shared.common.refused(&error);
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
            if shared.queue.leave(&shared.limiter, &place, &shared.common.clock) {
                shared.refund(self.cost);
            }
        }
    }
}
