use std::time::Duration;

use super::backoff::Backoff;
use super::budget::Budget;
use crate::vocabulary::invalid_config::{InvalidConfig, check_at_least, check_duration};
use crate::vocabulary::observe::{Common, common_setters};
use crate::vocabulary::rng::Rng;

/// The rules of a retry.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Policy {
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) total_time: Option<Duration>,
    pub(super) max_hint: Duration,
}

/// How often, and how long apart, a call is attempted.
///
/// Built with by-value setters; checked when a layer is made of it.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(from = "super::document::RetryDocument"))]
#[must_use]
pub struct Config {
    pub(super) policy: Policy,
    pub(super) budget: Option<Budget>,
    pub(super) rng: Option<Rng>,
    pub(super) common: Common,
}

impl Default for Config {
    fn default() -> Self {
        let policy = Policy {
            attempts: 3,
            backoff: Backoff::exponential(Duration::from_millis(100)),
            total_time: None,
            max_hint: Duration::from_secs(300),
        };
        Self { policy, budget: None, rng: None, common: Common::default() }
    }
}

impl Config {
    /// Returns the defaults: 3 attempts, exponential waits from 100 ms to 10 s with full jitter.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many attempts there are in total, the first included. Defaults to 3: two more help
    /// against a passing fault, more mostly add load. At least 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.policy.attempts = attempts;
        self
    }

    /// Sets how long to wait before each further attempt. Defaults to [`Backoff::exponential`] from
    /// 100 ms.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.policy.backoff = backoff;
        self
    }

    /// No attempt begins at or after this time since `call`: a wait that would end later is not begun,
    /// and the failure is returned at once. An attempt under way is not cut short; a time limit does
    /// that. Defaults to no bound.
    pub fn total_time(mut self, time: Duration) -> Self {
        self.policy.total_time = Some(time);
        self
    }

    /// Sets the longest hint of a failure (`Retry-After`, a limiter's own) that is waited for; a
    /// longer one ends the call with that failure. Defaults to 5 minutes, so that a server cannot
    /// park callers for a day.
    pub fn max_hint(mut self, time: Duration) -> Self {
        self.policy.max_hint = time;
        self
    }

    /// Retries only as far as `budget` allows. Defaults to none; give one to every retry in front of a
    /// service that others call too.
    pub fn budget(mut self, budget: Budget) -> Self {
        self.budget = Some(budget);
        self
    }

    /// Where jitter comes from. Defaults to a source seeded differently in every process.
    pub fn rng(mut self, rng: Rng) -> Self {
        self.rng = Some(rng);
        self
    }

    common_setters!();

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_at_least("attempts", self.policy.attempts, 1)?;
        self.policy.backoff.check()?;
        check_duration("max-hint", self.policy.max_hint)?;
        self.policy.total_time.map_or(Ok(()), |time| check_duration("total-time", time))
    }
}
