use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::config::{Config, Policy};
use super::state::Attempts;
use crate::counters::Counters;
use crate::error::InvalidConfig;
use crate::observe::{Common, GaveUp};
use crate::rng::Rng;
use crate::sync::{AtomicU32, Mutex, Ordering, lock};

const RETRIES: usize = 0;
const EXHAUSTED: usize = 1;
const CALLS: usize = 2;

/// What every service of one layer shares.
#[derive(Debug)]
pub(super) struct Shared {
    /// The rules. Read when an attempt has failed, never before.
    policy: Mutex<Policy>,
    /// Copies of what the first attempt must know of them.
    attempts: AtomicU32,
    timed: AtomicU32,
    budget: Option<Budget>,
    rng: Rng,
    counters: Counters<3>,
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

    fn apply(&self, policy: Policy) {
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
    /// `repeatable` is whether the request can be sent again.
    pub(super) fn next(
        &self,
        attempts: &mut Attempts,
        repeatable: bool,
        hint: Option<Duration>,
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

/// The operator's view of a retry. Cheap to clone; all clones, and every service of the layer, share
/// one state.
#[derive(Clone)]
pub struct Handle {
    pub(super) shared: Arc<Shared>,
}

impl Handle {
    /// Takes over attempts, backoff and times of `config`, for failures from now on. The budget and the
    /// source of jitter stay.
    ///
    /// # Errors
    /// What [`RetryLayer::new`](super::RetryLayer::new) would refuse is refused and changes nothing.
    pub fn reconfigure(&self, config: &Config) -> Result<(), InvalidConfig> {
        config.check()?;
        self.shared.apply(config.policy);
        self.shared.common.reconfigured();
        Ok(())
    }

    /// Whether [`reconfigure`](Self::reconfigure) would take `config`. Changes nothing.
    ///
    /// # Errors
    /// What it would say.
    pub fn accepts(&self, config: &Config) -> Result<(), InvalidConfig> {
        config.check()
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = &self.shared;
        Stats {
            attempts: shared.attempts.load(Ordering::Relaxed),
            retries: shared.counters.sum(RETRIES),
            exhausted: shared.counters.sum(EXHAUSTED),
            calls: shared.common.count_calls.then(|| shared.counters.sum(CALLS)),
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

/// A snapshot of a retry.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    /// The greatest number of attempts in force.
    pub attempts: u32,
    /// Attempts after the first.
    pub retries: u64,
    /// Calls that ended with a failure that was worth another attempt.
    pub exhausted: u64,
    /// Calls begun; `None` unless [`count_calls`](super::Config::count_calls) is on.
    pub calls: Option<u64>,
}
