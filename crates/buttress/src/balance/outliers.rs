//! The configuration of the ejection. `state.rs` decides when an endpoint goes out.

use std::time::Duration;

use crate::vocabulary::invalid_config::{InvalidConfig, check_at_least, check_duration};
use crate::vocabulary::setters::setters;

/// The rules by which a balancer takes a failing endpoint out for a while, and takes it back.
///
/// An endpoint goes out after a number of failures in a row, or when the share of failures in a time window is too
/// large. It is away for [`away`](Self::away) times the number of its ejections, at most
/// [`longest`](Self::longest), with a jitter of 10 %. The number falls by one for each `away` that the endpoint then
/// stays in. At most half of the endpoints are ejected at the same time, rounded down, so the only one never is.
/// Endpoints that are marked down or rest do not count towards this half.
#[derive(Clone, Copy, PartialEq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[must_use]
pub struct Outliers {
    pub(super) consecutive_failures: u32,
    pub(super) failure_rate: f64,
    pub(super) minimum_calls: u32,
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) window: Duration,
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) away: Duration,
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) longest: Duration,
}

impl Default for Outliers {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            failure_rate: 0.5,
            minimum_calls: 20,
            window: Duration::from_secs(10),
            away: Duration::from_secs(10),
            longest: Duration::from_secs(300),
        }
    }
}

impl Outliers {
    /// Creates the rules with the defaults: 5 failures in a row, or half of at least 20 calls in 10 seconds; away for
    /// 10 seconds times the count, at most 300 seconds.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets how many failures in a row take an endpoint out. Default: 5. At least 1.
        pub fn consecutive_failures(failures: u32);

        /// Sets the share of failures in the window that takes an endpoint out. Default: 0.5. Above 0, at most 1.
        pub fn failure_rate(share: f64);

        /// Sets how many calls the window must have before the share of failures counts. Default: 20. At least 1.
        pub fn minimum_calls(calls: u32);

        /// Sets the length of the window. Default: 10 seconds. Longer than zero, at most 365 days. It cannot change
        /// while the balancer runs.
        pub fn window(window: Duration);

        /// Sets how long an endpoint is away the first time. Default: 10 seconds. Longer than zero, at most 365 days.
        pub fn away(time: Duration);

        /// Sets the longest time that an endpoint is away. Default: 300 seconds. At least [`away`](Self::away), at
        /// most 365 days.
        pub fn longest(time: Duration);
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_at_least("eject.consecutive-failures", self.consecutive_failures, 1)?;
        check_at_least("eject.minimum-calls", self.minimum_calls, 1)?;
        if !(self.failure_rate > 0.0 && self.failure_rate <= 1.0) {
            let (rate, bound) = (self.failure_rate, "above 0 and at most 1");
            return Err(InvalidConfig::new("eject.failure-rate", rate, bound));
        }
        check_duration("eject.window", self.window)?;
        check_duration("eject.away", self.away)?;
        check_duration("eject.longest", self.longest)?;
        if self.longest < self.away {
            let (longest, bound) = (format!("{:?}", self.longest), "at least eject.away");
            return Err(InvalidConfig::new("eject.longest", longest, bound));
        }
        Ok(())
    }
}
