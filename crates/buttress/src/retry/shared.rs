//! The state that the services of one layer share.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::config::{Config, Policy};
use super::state::{Attempts, Failure};
use crate::machinery::counters::{Counters, counters};
use crate::machinery::own::{Held, Own};
use crate::machinery::reconfigure::Reconfigure;
use crate::sync::{AtomicU32, Mutex, Ordering, lock};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::{Common, GaveUp};
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::rng::Rng;

counters! {
    /// The counters of a retry.
    pub(super) enum Counter {
        Retries,
        Exhausted,
        Calls,
        NotMade,
    }
}

/// A flag in [`Shared::first`]: calls are timed.
const TIMED: u32 = 1 << 31;
/// A flag in [`Shared::first`]: the layer or its budget counts calls.
const COUNTED: u32 = 1 << 30;
/// The mask of the other bits of [`Shared::first`]: the greatest number of attempts.
const MOST_ATTEMPTS: u32 = COUNTED - 1;

/// The facts that a first attempt needs.
pub(super) struct First {
    /// `true` if another attempt may follow.
    pub repeats: bool,
    /// When the attempt began. Read only if the total time counts.
    pub started: Option<Instant>,
}

/// The state that the services of one layer share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// The rules. They are read only after an attempt failed.
    pub(super) policy: Mutex<Policy>,
    /// The greatest number of attempts, with [`TIMED`] and [`COUNTED`].
    first: AtomicU32,
    pub(super) budget: Option<Budget>,
    pub(super) rng: Rng,
    pub(super) counters: Counters<Counter>,
    pub(super) common: Common,
}

impl Shared {
    pub(super) fn new(config: &Config) -> Result<Arc<Self>, InvalidConfig> {
        config.check()?;
        if let Some(budget) = &config.budget {
            budget.open(config.common.clock.now());
        }
        let shared = Self {
            policy: Mutex::new(config.policy),
            first: AtomicU32::new(0),
            budget: config.budget.clone(),
            rng: config.rng.clone().unwrap_or_default(),
            counters: Counters::new(),
            common: config.common.of(Pattern::Retry),
        };
        shared.apply_policy(config.policy);
        Ok(Arc::new(shared))
    }

    fn apply_policy(&self, policy: Policy) {
        *lock(&self.policy) = policy;
        let timed = if policy.total_time.is_some() { TIMED } else { 0 };
        let counted = self.budget.is_some() || self.common.count_calls;
        let counted = if counted { COUNTED } else { 0 };
        let attempts = policy.attempts.min(MOST_ATTEMPTS);
        self.first.store(attempts | timed | counted, Ordering::Relaxed);
    }

    /// Returns `true` if another attempt may follow attempt `number`. Otherwise its request need
    /// not be copied.
    pub(super) fn may_repeat(&self, number: u32) -> bool {
        self.first.load(Ordering::Relaxed) & MOST_ATTEMPTS > number
    }

    /// Counts and times a call that begins.
    #[inline(always)]
    pub(super) fn begin(&self) -> First {
        let first = self.first.load(Ordering::Relaxed);
        if first & COUNTED != 0 {
            self.count_call();
        }
        let started = if first & TIMED == 0 { None } else { Some(self.now()) };
        First { repeats: first & MOST_ATTEMPTS > 1, started }
    }

    #[inline]
    fn count_call(&self) {
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
        if self.common.count_calls {
            self.counters.add(Counter::Calls);
        }
    }

    pub(super) fn now(&self) -> Instant {
        self.common.clock.now()
    }

    /// Returns the wait before the next attempt, or `None` if no attempt follows the failed one.
    /// `commit` makes sure that the request can be sent again.
    pub(super) fn next<O: Own>(
        this: &O::Of<Self>,
        attempts: &mut Attempts,
        failure: Failure,
        commit: impl FnOnce() -> bool,
    ) -> Option<(Duration, Decided<O::Of<Self>>)> {
        let policy = *lock(&this.policy);
        let failed = attempts.number();
        let withdraw = || this.budget.as_ref().is_none_or(|budget| budget.try_withdraw(this.now()));
        let now = || this.now();
        let decided = attempts.decide(&policy, failure, &this.rng, now, withdraw, commit);
        match decided {
            Ok(delay) => {
                // Made before the observer is called, because the observer may panic.
                let decided = Decided { shared: Some(this.clone()), failed };
                this.common.retrying(failed, delay);
                Some((delay, decided))
            }
            Err(reason) => {
                this.give_up(failed, reason);
                None
            }
        }
    }

    /// Counts and reports a call that ended with a failure after `attempts` attempts.
    fn give_up(&self, attempts: u32, reason: GaveUp) {
        self.counters.add(Counter::Exhausted);
        self.common.gave_up(attempts, reason);
    }
}

impl Reconfigure for Shared {
    type Config = Config;

    fn config(&self) -> Config {
        Config {
            policy: *lock(&self.policy),
            budget: self.budget.clone(),
            rng: Some(self.rng.clone()),
            common: self.common.clone(),
        }
    }

    fn accepts(_old: &Config, new: &Config) -> Result<(), InvalidConfig> {
        new.check()
    }

    fn apply(&self, config: &Config) {
        self.apply_policy(config.policy);
    }

    fn common(&self) -> &Common {
        &self.common
    }
}

/// A further attempt that was decided on. If it is dropped before it is made, it counts as not
/// made.
#[derive(Debug)]
pub(super) struct Decided<H: Held<Shared>> {
    /// `None` once it is counted.
    shared: Option<H>,
    /// The number of the attempt that failed.
    failed: u32,
}

impl<H: Held<Shared>> Decided<H> {
    /// Counts the attempt, which is made now.
    pub(super) fn made(mut self) {
        if let Some(shared) = self.shared.take() {
            shared.counters.add(Counter::Retries);
            shared.common.retried();
        }
    }

    /// Ends the call, because its service failed to become ready for the attempt.
    pub(super) fn unready(mut self) {
        if let Some(shared) = self.shared.take() {
            shared.counters.add(Counter::NotMade);
            shared.give_up(self.failed, GaveUp::NotReady);
        }
    }
}

impl<H: Held<Shared>> Drop for Decided<H> {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            shared.counters.add(Counter::NotMade);
        }
    }
}
