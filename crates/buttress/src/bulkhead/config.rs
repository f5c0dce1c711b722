use std::time::Duration;

use crate::vocabulary::invalid_config::{InvalidConfig, check_at_least, check_duration};
use crate::vocabulary::observe::{Common, common_setters};

/// How many calls may run at once, and what happens to the next one.
///
/// Built with by-value setters; checked when a layer is made of it.
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
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many calls run at once. Defaults to 10: small enough to protect a pool of
    /// connections, large enough not to be in the way of a quiet service. At least 1.
    pub fn max_concurrent(mut self, calls: u32) -> Self {
        self.max_concurrent = calls;
        self
    }

    /// Sets how many calls may wait, in [`queued`](super::BulkheadLayer::queued) layers and
    /// [`Handle::acquire`](super::Handle::acquire). Defaults to 0: a queue turns overload into
    /// latency, which should be a choice.
    pub fn queue(mut self, calls: u32) -> Self {
        self.queue = calls;
        self
    }

    /// Sets how long a call keeps its place in the queue. A call that has its permit, and waits for the inner
    /// service, is not bounded by it. Default: no bound but the caller's patience, because dropping the call
    /// leaves the queue. Longer than zero, at most 365 days.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.max_wait = Some(wait);
        self
    }

    /// Sets how long a permit is kept for a waiter that was granted it and is not polled. The permit then
    /// goes to the next waiter, or to a newcomer if no other call waits. The first waiter keeps its place at the
    /// head of the queue: once it is polled again, it has the first claim to the next permit. Default: 1 second.
    /// Longer than zero, at most 365 days.
    pub fn claim_within(mut self, time: Duration) -> Self {
        self.claim_within = time;
        self
    }

    common_setters!();

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_at_least("max-concurrent", self.max_concurrent, 1)?;
        check_duration("claim-within", self.claim_within)?;
        self.max_wait.map_or(Ok(()), |wait| check_duration("max-wait", wait))
    }
}
