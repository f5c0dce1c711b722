//! What every service of one layer shares.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::config::{Config, Policy};
use super::state::Attempts;
use crate::counters::Counters;
use crate::invalid_config::InvalidConfig;
use crate::observe::{Common, GaveUp};
use crate::rng::Rng;
use crate::sync::{AtomicU32, Mutex, Ordering, lock};

pub(super) const RETRIES: usize = 0;
pub(super) const EXHAUSTED: usize = 1;
pub(super) const CALLS: usize = 2;

/// What every service of one layer shares.
#[derive(Debug)]
pub(super) struct Shared {
    /// The rules. Read when an attempt has failed, never before.
    pub(super) policy: Mutex<Policy>,
    /// Copies of what the first attempt must know of them.
    pub(super) attempts: AtomicU32,
    pub(super) timed: AtomicU32,
    pub(super) budget: Option<Budget>,
    pub(super) rng: Rng,
    pub(super) counters: Counters<3>,
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
            attempts: AtomicU32::new(0),
            timed: AtomicU32::new(0),
            budget: config.budget.clone(),
            rng: config.rng.clone().unwrap_or_default(),
            counters: Counters::new(),
            common: config.common.clone(),
        };
        shared.apply(config.policy);
        Ok(Arc::new(shared))
    }

    pub(super) fn apply(&self, policy: Policy) {
        *lock(&self.policy) = policy;
        self.attempts.store(policy.attempts, Ordering::Relaxed);
        self.timed.store(policy.total_time.is_some().into(), Ordering::Relaxed);
    }

    /// Whether attempt `number` may be followed by another: if not, its request need not be copied.
    pub(super) fn may_repeat(&self, number: u32) -> bool {
        self.attempts.load(Ordering::Relaxed) > number
    }

    /// A call begins.
    pub(super) fn begin(&self) -> Attempts {
        if let Some(budget) = &self.budget {
            budget.deposit();
        }
        if self.common.count_calls {
            self.counters.add(CALLS);
        }
        let timed = self.timed.load(Ordering::Relaxed) != 0;
        Attempts::begin(timed.then(|| self.now()))
    }

    pub(super) fn now(&self) -> Instant {
        self.common.clock.now()
    }

    /// An attempt failed, in a way worth another: how long to wait for it, or `None` if there is none.
    /// `repeatable` is whether the request can be sent again, `commit` makes sure of it.
    pub(super) fn next(
        &self,
        attempts: &mut Attempts,
        repeatable: bool,
        hint: Option<Duration>,
        commit: impl FnOnce() -> bool,
    ) -> Option<Duration> {
        let policy = *lock(&self.policy);
        let failed = attempts.number();
        let decided = if policy.attempts > failed && !repeatable {
            Err(GaveUp::Request)
        } else {
            attempts.next(&policy, hint, &self.rng, || self.now())
        };
        // The budget is asked last, so that it pays only for retries that happen.
        let decided = decided.and_then(|delay| {
            let paid = self.budget.as_ref().is_none_or(|budget| budget.try_withdraw(self.now()));
            if paid { Ok(delay) } else { Err(GaveUp::Budget) }
        });
        let decided =
            decided.and_then(|delay| if commit() { Ok(delay) } else { Err(GaveUp::Request) });
        match decided {
            Ok(delay) => {
                self.counters.add(RETRIES);
                self.common.retrying(failed, delay);
                Some(delay)
            }
            Err(reason) => {
                self.counters.add(EXHAUSTED);
                self.common.gave_up(failed, reason);
                None
            }
        }
    }
}
