use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::config::Config;
use super::state::{Limiter, Short};
use crate::clock;
use crate::counters::Counters;
use crate::error::{Error, InvalidConfig};
use crate::observe::Common;
use crate::queue::{Ask, Joined, Place, WaitQueue};
use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering, lock};

const REFUSED: usize = 0;
const TIMED_OUT: usize = 1;
const ADMITTED: usize = 2;

/// What every service of one layer shares.
#[derive(Debug)]
pub(super) struct Shared {
    limiter: Limiter,
    queue: WaitQueue,
    capacity: AtomicUsize,
    max_wait: AtomicU64,
    /// Tokens per second, the bits of an `f32`, for messages.
    per_second: AtomicU32,
    counters: Counters<3>,
    pub(super) common: Common,
    /// Tokens and period of the rate in force. Held while it is changed, so that changes come one
    /// after the other.
    refill: Mutex<(u32, Duration)>,
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

    fn note(&self, config: &Config) {
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

    fn may_wait(&self, cost: u32, now: Instant) -> bool {
        let (waiting, _, ahead) = self.queue.gauges();
        waiting < self.capacity.load(Ordering::Relaxed) && self.comes_in_time(ahead, cost, now)
    }

    fn comes_in_time(&self, ahead: u64, cost: u32, now: Instant) -> bool {
        self.limiter.wait_for(ahead, cost, now).is_some_and(|wait| wait <= self.max_wait())
    }

    fn max_wait(&self) -> Duration {
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

/// The operator's view of a rate limiter, and its use without tower. Cheap to clone; all clones, and
/// every service of the layer, share one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Takes `cost` tokens if they are there and nobody waits for them.
    ///
    /// # Errors
    /// [`RateLimited`](crate::ErrorKind::RateLimited) otherwise, with the exact time until they would
    /// be there; without one if `cost` is more than the limiter can ever hold.
    pub fn try_acquire(&self, cost: u32) -> Result<(), Error> {
        self.shared.try_take(cost)
    }

    /// Takes `cost` tokens, waiting for them in the queue within the configured bounds.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the queue, or gives the tokens back if they had just been granted.
    ///
    /// # Errors
    /// [`RateLimited`](crate::ErrorKind::RateLimited), at once, if the wait would be too long or the
    /// queue is full; [`QueueTimeout`](crate::ErrorKind::QueueTimeout) after the longest wait, which
    /// can only be if the rate was lowered meanwhile.
    pub async fn acquire(&self, cost: u32) -> Result<(), Error> {
        match self.shared.take_or_wait(cost)? {
            Waiting::Done(tokens) => tokens.spend(),
            Waiting::Queued(mut place) => {
                std::future::poll_fn(|cx| place.poll(cx)).await?.spend();
            }
        }
        Ok(())
    }

    /// Whether a call of one token would be refused now, and how. Takes nothing.
    #[must_use]
    pub fn check(&self) -> Option<Error> {
        self.shared.peek()
    }

    /// Whole tokens that could be taken now, without taking any.
    #[must_use]
    pub fn available(&self) -> u32 {
        self.shared.limiter.available(self.shared.common.clock.now())
    }

    /// Takes over rate, size, queue and longest wait from `config`. The level stays: whoever had used
    /// the limit up before has used it up after.
    ///
    /// # Errors
    /// What [`RateLimitLayer::new`](super::RateLimitLayer::new) would refuse, and another policy, are
    /// refused and change nothing.
    pub fn reconfigure(&self, config: &Config) -> Result<(), InvalidConfig> {
        self.accepts(config)?;
        let shared = &self.shared;
        {
            let mut refill = lock(&shared.refill);
            shared.limiter.apply(config, shared.common.clock.now());
            shared.note(config);
            *refill = (config.refill_tokens, config.refill_period);
        }
        shared.queue.pump(&shared.limiter, &shared.common.clock);
        shared.common.reconfigured();
        Ok(())
    }

    /// Whether [`reconfigure`](Self::reconfigure) would take `config`. Changes nothing.
    ///
    /// # Errors
    /// What it would say.
    pub fn accepts(&self, config: &Config) -> Result<(), InvalidConfig> {
        config.check()?;
        self.shared.limiter.accepts(config)
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        let (queued, peak_queued, _) = shared.queue.gauges();
        let (refill_tokens, refill_period) = *lock(&shared.refill);
        let now = shared.common.clock.now();
        Stats {
            available: shared.limiter.available(now),
            max_tokens: shared.limiter.max_tokens(),
            refill_tokens,
            refill_period,
            full_in: shared.limiter.full_in(now),
            queued,
            peak_queued,
            refused: shared.counters.sum(REFUSED),
            queue_timeouts: shared.counters.sum(TIMED_OUT),
            admitted: shared.common.count_calls.then(|| shared.counters.sum(ADMITTED)),
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("name", &self.shared.common.name)
            .field("stats", &self.stats())
            .finish()
    }
}

/// A snapshot of a rate limiter.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// Whole tokens that could be taken now.
    pub available: u32,
    /// The size of the bucket or window in force.
    pub max_tokens: u32,
    /// How many tokens come back in [`refill_period`](Self::refill_period).
    pub refill_tokens: u32,
    /// The time in which [`refill_tokens`](Self::refill_tokens) come back; the length of a window.
    pub refill_period: Duration,
    /// How long until everything is there again, if nothing is taken.
    pub full_in: Duration,
    /// Calls waiting now.
    pub queued: usize,
    /// The most calls that ever waited at once.
    pub peak_queued: usize,
    /// Calls refused.
    pub refused: u64,
    /// Calls that waited in vain, because the rate was lowered meanwhile.
    pub queue_timeouts: u64,
    /// Calls admitted; `None` unless [`count_calls`](super::Config::count_calls) is on.
    pub admitted: Option<u64>,
}
