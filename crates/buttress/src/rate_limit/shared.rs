//! The state that the services of one layer share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::config::Config;
use super::state::{Limiter, Receipt, Short};
use super::tokens::{Spent, Tokens};
use crate::context::wait_until_deadline;
use crate::machinery::counters::{Counters, counters};
use crate::machinery::queue::{Ask, Gauges, Joined, NotGranted, WaitQueue};
use crate::machinery::reconfigure::Reconfigure;
use crate::machinery::waiting::{self, Limiter as _, Outlook, Waiting};
use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Mutex, Ordering, lock};
use crate::vocabulary::clock::{self, Clock};
use crate::vocabulary::error::{Error, RetryAfter};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::Common;
use crate::vocabulary::pattern::Pattern;

counters! {
    /// The counters of a limiter.
    pub(super) enum Counter {
        Refused,
        TimedOut,
        Admitted,
    }
}

/// A refill rate: tokens per period.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refill {
    pub tokens: u32,
    pub period: Duration,
}

impl Refill {
    fn of(config: &Config) -> Self {
        Self { tokens: config.refill_tokens(), period: config.refill_period }
    }
}

/// The state that the services of one layer share.
#[derive(Debug)]
pub struct Shared {
    pub(super) limiter: Limiter,
    pub(super) queue: WaitQueue<Limiter>,
    pub(super) capacity: AtomicUsize,
    pub(super) max_wait: AtomicU64,
    pub(super) claim_within: AtomicU64,
    /// Tokens per second as the bits of an `f32`, for messages.
    pub(super) per_second: AtomicU32,
    pub(super) counters: Counters<Counter>,
    pub(super) common: Common,
    /// The rate in force. The lock is held during a change, so that changes run one after another.
    pub(super) refill: Mutex<Refill>,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        let shared = Self {
            limiter: Limiter::new(config, config.common.clock.now()),
            queue: WaitQueue::new(),
            capacity: AtomicUsize::new(0),
            max_wait: AtomicU64::new(0),
            claim_within: AtomicU64::new(0),
            per_second: AtomicU32::new(0),
            counters: Counters::new(),
            common: config.common.of(Pattern::RateLimit),
            refill: Mutex::new(Refill::of(config)),
        };
        shared.note(config);
        Ok(Arc::new(shared))
    }

    pub(super) fn note(&self, config: &Config) {
        self.capacity.store(config.queue as usize, Ordering::Relaxed);
        self.max_wait.store(clock::to_nanos(config.max_wait), Ordering::Relaxed);
        self.claim_within.store(clock::to_nanos(config.claim_within), Ordering::Relaxed);
        self.per_second.store(config.per_second().to_bits(), Ordering::Relaxed);
    }

    /// Returns the retry time of a call of one token that would be refused now, or `None` if it
    /// would be admitted.
    #[inline]
    pub(super) fn peek(&self) -> Option<RetryAfter> {
        if self.limiter.surely_has_one() { None } else { self.peek_by_clock() }
    }

    #[inline(always)]
    fn peek_by_clock(&self) -> Option<RetryAfter> {
        let now = self.common.clock.now();
        match self.limiter.quick_wait(1, now) {
            Some(wait) => Some(RetryAfter::nanos(wait)),
            None => self.peek_thoroughly(now),
        }
    }

    #[inline(never)]
    fn peek_thoroughly(&self, now: Instant) -> Option<RetryAfter> {
        let short = self.limiter.peek(1, now).err()?;
        let there = || self.queue.is_idle() && self.comes_in(0, 1, now) == Some(Duration::ZERO);
        if short == Short::Behind && there() {
            return None;
        }
        Some(self.retry_after(short, 1, now))
    }

    /// Returns the remaining retry time of a call that was found to be refused earlier.
    #[inline(always)]
    pub(super) fn left(&self, cost: u32) -> RetryAfter {
        let now = self.common.clock.now();
        match self.limiter.quick_wait(cost, now) {
            Some(wait) => RetryAfter::nanos(wait),
            None => self.left_thoroughly(cost, now),
        }
    }

    #[inline(never)]
    fn left_thoroughly(&self, cost: u32, now: Instant) -> RetryAfter {
        match self.limiter.peek(cost, now) {
            Ok(()) => RetryAfter::nanos(0),
            Err(short) => self.retry_after(short, cost, now),
        }
    }

    fn may_wait(&self, cost: u32, now: Instant) -> bool {
        let Gauges { waiting, owed: ahead, .. } = self.queue.gauges();
        waiting < self.capacity.load(Ordering::Relaxed)
            && self.comes_within(Some(self.max_wait()), ahead, cost, now)
    }

    fn comes_within(&self, longest: Option<Duration>, ahead: u64, cost: u32, now: Instant) -> bool {
        let wait = self.comes_in(ahead, cost, now);
        wait.is_some_and(|wait| longest.is_none_or(|longest| wait <= longest))
    }

    fn comes_in(&self, ahead: u64, cost: u32, now: Instant) -> Option<Duration> {
        self.limiter.wait_for(ahead, cost, now)
    }

    fn max_wait(&self) -> Duration {
        Duration::from_nanos(self.max_wait.load(Ordering::Relaxed))
    }

    #[inline(always)]
    pub(super) fn try_take(&self, cost: u32) -> Result<Spent, RetryAfter> {
        let now = self.common.clock.now();
        match self.limiter.spend(cost, now) {
            Ok(()) => {
                self.admitted();
                Ok(Spent)
            }
            Err(Short::Behind) => self.take_behind(cost, now),
            Err(short) => Err(self.retry_after(short, cost, now)),
        }
    }

    /// Asks the queue, which may be empty by now.
    #[cold]
    fn take_behind(&self, cost: u32, now: Instant) -> Result<Spent, RetryAfter> {
        let ask = Ask { cost, capacity: 0, longest: None, claim: None };
        match self.queue.join(&self.limiter, ask, now, |_| false) {
            Joined::Granted(_) => {
                self.admitted();
                Ok(Spent)
            }
            Joined::Waiting(_) | Joined::Full => Err(self.after_the_queue(cost, now)),
        }
    }

    #[inline]
    pub(super) fn admitted(&self) {
        if self.common.count_calls {
            self.counters.add(Counter::Admitted);
        }
    }

    #[inline(always)]
    fn retry_after(&self, short: Short, cost: u32, now: Instant) -> RetryAfter {
        match short {
            Short::For(nanos) => RetryAfter::nanos(nanos),
            Short::Never => RetryAfter::UNKNOWN,
            Short::Behind => self.after_the_queue(cost, now),
        }
    }

    #[cold]
    fn after_the_queue(&self, cost: u32, now: Instant) -> RetryAfter {
        let wait = self.comes_in(self.queue.gauges().owed, cost, now);
        wait.map_or(RetryAfter::UNKNOWN, RetryAfter::from)
    }

    #[inline(always)]
    pub(super) fn error(&self, retry_after: RetryAfter) -> Error {
        let per_second = self.per_second.load(Ordering::Relaxed);
        Error::rate_limited(self.common.name, per_second, retry_after)
    }

    /// Returns the refusal for the caller, after it has counted and reported it.
    #[inline(always)]
    pub(super) fn refuse(&self, retry_after: RetryAfter) -> Error {
        self.note_refusal(retry_after);
        self.error(retry_after)
    }

    #[inline(always)]
    fn note_refusal(&self, retry_after: RetryAfter) {
        self.counters.add(Counter::Refused);
        self.common.refused(|| self.error(retry_after));
    }

    fn ask(
        self: &Arc<Self>,
        ask: Ask,
        admits: impl FnOnce(Instant, u64) -> bool,
    ) -> Result<Waiting<Self>, Error> {
        let now = self.common.clock.now();
        let short = match self.limiter.try_take(ask.cost, now) {
            Ok(receipt) => return Ok(Waiting::Done(self.pass(ask.cost, receipt))),
            Err(short) => short,
        };
        let joined = match short {
            Short::Never => None,
            Short::For(_) | Short::Behind => Waiting::join(self, ask, admits),
        };
        joined.ok_or_else(|| {
            let short = if short == Short::Never { short } else { Short::Behind };
            self.refuse(self.retry_after(short, ask.cost, now))
        })
    }
}

impl waiting::Limiter for Shared {
    type Pass = Tokens;
    type Held = Spent;
    type Resource = Limiter;

    fn resource(&self) -> &Limiter {
        &self.limiter
    }

    fn queue(&self) -> &WaitQueue<Limiter> {
        &self.queue
    }

    fn clock(&self) -> &Clock {
        &self.common.clock
    }

    fn pass(self: &Arc<Self>, cost: u32, receipt: Receipt) -> Tokens {
        Tokens::taken(self.clone(), cost, receipt)
    }

    fn begin(tokens: Tokens) -> Spent {
        tokens.spend()
    }

    fn wait_failed(&self, _cost: u32, why: NotGranted, longest: Option<Duration>) -> Error {
        if why == NotGranted::Never {
            return self.refuse(RetryAfter::UNKNOWN);
        }
        let error = Error::queue_timeout(self.common.name, longest.unwrap_or_default());
        self.counters.add(Counter::TimedOut);
        self.common.refused(|| error.clone());
        error
    }

    /// The outlook of a call of one token, because the real cost is not known yet.
    fn outlook(&self) -> Outlook {
        if self.peek().is_none() {
            return Outlook::Admitted;
        }
        let waits = self.may_wait(1, self.common.clock.now());
        if waits { Outlook::Waits } else { Outlook::Refused }
    }

    fn take_or_wait(self: &Arc<Self>, cost: u32) -> Result<Waiting<Self>, Error> {
        let capacity = self.capacity.load(Ordering::Relaxed);
        // A waiter keeps tokens that it does not claim: they were promised to it, and time brings
        // more for the next waiter.
        let longest = wait_until_deadline(Some(self.max_wait()), || self.clock().now());
        let ask = Ask { cost, capacity, longest, claim: None };
        self.ask(ask, |now, ahead| self.comes_within(longest, ahead, cost, now))
    }

    fn take_or_park(self: &Arc<Self>) -> Result<Waiting<Self>, Error> {
        let claim = Some(Duration::from_nanos(self.claim_within.load(Ordering::Relaxed)));
        self.ask(Ask { cost: 1, capacity: usize::MAX, longest: None, claim }, |_, _| true)
    }

    fn take(self: &Arc<Self>) -> Result<Spent, Error> {
        self.try_take(1).map_err(|retry_after| self.refuse(retry_after))
    }

    fn refuse_as_foreseen(&self, cost: u32) -> Error {
        self.refuse(self.left(cost))
    }
}

impl Reconfigure for Shared {
    type Config = Config;

    fn config(&self) -> Config {
        let refill = *lock(&self.refill);
        Config {
            policy: self.limiter.policy(),
            max_tokens: self.limiter.max_tokens(),
            refill_tokens: refill.tokens,
            refill_period: refill.period,
            queue: self.capacity.load(Ordering::Relaxed) as u32,
            max_wait: self.max_wait(),
            claim_within: Duration::from_nanos(self.claim_within.load(Ordering::Relaxed)),
            common: self.common.clone(),
        }
    }

    fn accepts(old: &Config, new: &Config) -> Result<(), InvalidConfig> {
        new.check()?;
        new.keeps_policy(old)
    }

    fn apply(&self, config: &Config) {
        // Tokens that are due to waiters by now belong to them under the old rules.
        waiting::settle(self);
        let mut refill = lock(&self.refill);
        self.limiter.apply(config, self.common.clock.now());
        self.note(config);
        *refill = Refill::of(config);
    }

    fn serve(&self) {
        waiting::settle(self);
    }

    fn common(&self) -> &Common {
        &self.common
    }
}
