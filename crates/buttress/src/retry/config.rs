use std::time::Duration;

use super::backoff::Backoff;
use super::budget::Budget;
use crate::vocabulary::invalid_config::{InvalidConfig, check_at_least, check_duration};
use crate::vocabulary::observe::{Common, common_setters};
use crate::vocabulary::rng::Rng;
use crate::vocabulary::setters::setters;

/// The rules of a retry.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Policy {
    pub attempts: u32,
    pub backoff: Backoff,
    pub total_time: Option<Duration>,
    pub max_hint: Duration,
}

/// The configuration of a retry: how many attempts a call gets, and the waits between them.
///
/// Setters take the configuration by value. The constructor of the layer checks it.
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
    /// Creates a configuration with the defaults: 3 attempts, exponential waits from 100 ms to 10 s
    /// with full jitter.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets how many attempts a call gets in total, the first included. Default: 3. At least 1.
        /// More attempts mostly add load.
        attempts(attempts: u32) sets policy.attempts;

        /// Sets the wait before each further attempt. Default: [`Backoff::exponential`] from 100 ms.
        backoff(backoff: Backoff) sets policy.backoff;

        /// Sets how long after `call` an attempt may begin. Default: no bound.
        ///
        /// If the next attempt would begin at or after this time, the retry returns the failure without
        /// waiting. It does not cancel an attempt in progress; a time limit does that. Longer than zero,
        /// at most 365 days.
        total_time(time: Duration) sets policy.total_time => Some(time);

        /// Sets the longest hint of a failure (`Retry-After`, a limiter's own) that the retry waits
        /// for. A longer hint ends the call with that failure. Default: 5 minutes, so that a server
        /// cannot delay callers for a day. Longer than zero, at most 365 days.
        max_hint(time: Duration) sets policy.max_hint;

        /// Sets the budget that limits retries. Default: none. Set one on every retry in front of a
        /// service that other callers use too.
        budget(budget: Budget) => Some(budget);

        /// Sets the source of jitter. Default: a source with a different seed in every process.
        rng(rng: Rng) => Some(rng);
    }

    common_setters!();

    /// Checks the fields. An error has the name of the layer.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        self.common.named(self.check_fields())
    }

    fn check_fields(&self) -> Result<(), InvalidConfig> {
        check_at_least("attempts", self.policy.attempts, 1)?;
        self.policy.backoff.check()?;
        check_duration("max-hint", self.policy.max_hint)?;
        self.policy.total_time.map_or(Ok(()), |time| check_duration("total-time", time))
    }
}
