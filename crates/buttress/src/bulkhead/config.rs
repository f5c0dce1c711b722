use std::time::Duration;

#[cfg(feature = "serde")]
use crate::vocabulary::duration_text;
use crate::vocabulary::invalid_config::{InvalidConfig, check_at_least, check_duration};
use crate::vocabulary::observe::{Common, common_setters};
use crate::vocabulary::setters::{configuration, setters};

configuration! {
    /// The configuration of a bulkhead: how many calls run concurrently, and whether the next call waits.
    ///
    /// Setters take the configuration by value. The constructor of the layer checks it.
    #[derive(Clone, Debug)]
    pub struct Config {
        max_concurrent: u32 = 10,
        queue: u32 = 0,
        #[cfg_attr(feature = "serde", serde(deserialize_with = "duration_text::optional"))]
        max_wait: Option<Duration> = None,
        #[cfg_attr(feature = "serde", serde(with = "crate::vocabulary::duration_text"))]
        claim_within: Duration = Duration::from_secs(1),
    }
}

impl Config {
    setters! {
        /// Sets how many calls run concurrently. Default: 10, small enough to protect a pool of
        /// connections. At least 1.
        max_concurrent(calls: u32);

        /// Sets how many calls may wait, in [`queued`](super::BulkheadLayer::queued) layers and
        /// [`Handle::acquire`](super::Handle::acquire). Default: 0, because a queue turns overload into
        /// latency.
        queue(calls: u32);

        /// Sets how long a call keeps its place in the queue. A call that has its permit may wait
        /// longer for the inner service. Default: no bound. A caller that stops waiting drops the call,
        /// which leaves the queue. Longer than zero, at most 365 days.
        max_wait(wait: Duration) => Some(wait);

        /// Sets how long a waiter that is not polled keeps a permit that it was granted.
        ///
        /// The permit then goes to the next waiter, or to any caller if no other call waits. The first
        /// waiter keeps its place at the head of the queue: when it is polled again, it gets the next
        /// permit. Default: 1 second. Longer than zero, at most 365 days.
        claim_within(time: Duration);
    }

    common_setters!();

    /// Checks the fields. An error has the name of the layer.
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        self.common.named(self.check_fields())
    }

    fn check_fields(&self) -> Result<(), InvalidConfig> {
        check_at_least("max-concurrent", self.max_concurrent, 1)?;
        check_duration("claim-within", self.claim_within)?;
        self.max_wait.map_or(Ok(()), |wait| check_duration("max-wait", wait))
    }
}
