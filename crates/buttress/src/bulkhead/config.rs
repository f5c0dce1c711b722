use std::time::Duration;

use crate::vocabulary::invalid_config::{InvalidConfig, check_at_least, check_duration};
use crate::vocabulary::observe::{Common, common_setters};
use crate::vocabulary::setters::setters;

/// Configuration of a bulkhead: how many calls run concurrently, and whether the next call waits.
///
/// Setters take it by value. The layer checks it when it is built.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields, rename_all = "kebab-case"))]
#[must_use]
pub struct Config {
    pub(super) max_concurrent: u32,
    pub(super) queue: u32,
    #[cfg_attr(
        feature = "serde",
        serde(deserialize_with = "crate::vocabulary::duration_text::optional")
    )]
    pub(super) max_wait: Option<Duration>,
    #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
    pub(super) claim_within: Duration,
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(super) common: Common,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_concurrent: 10,
            queue: 0,
            max_wait: None,
            claim_within: Duration::from_secs(1),
            common: Common::default(),
        }
    }
}

impl Config {
    /// Creates a configuration with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets how many calls run concurrently. Default: 10, small enough to protect a pool of
        /// connections. At least 1.
        pub fn max_concurrent(calls: u32);

        /// Sets how many calls may wait, in [`queued`](super::BulkheadLayer::queued) layers and
        /// [`Handle::acquire`](super::Handle::acquire). Default: 0, because a queue turns overload into
        /// latency.
        pub fn queue(calls: u32);

        /// Sets how long a call keeps its place in the queue. A call that has its permit may wait
        /// longer for the inner service. Default: no bound. A caller that stops waiting drops the call,
        /// which leaves the queue. Longer than zero, at most 365 days.
        pub fn max_wait(wait: Duration) => Some(wait);

        /// Sets how long a waiter that is not polled keeps a permit that it was granted.
        ///
        /// The permit then goes to the next waiter, or to any caller if no other call waits. The first
        /// waiter keeps its place at the head of the queue: when it is polled again, it gets the next
        /// permit. Default: 1 second. Longer than zero, at most 365 days.
        pub fn claim_within(time: Duration);
    }

    common_setters!();

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_at_least("max-concurrent", self.max_concurrent, 1)?;
        check_duration("claim-within", self.claim_within)?;
        self.max_wait.map_or(Ok(()), |wait| check_duration("max-wait", wait))
    }
}
