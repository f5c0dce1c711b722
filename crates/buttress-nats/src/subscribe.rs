//! [`Subscribe`]: the settings of a group and its members.

use std::time::Duration;

use buttress::__setters as setters;
use buttress::{Clock, InvalidConfig, Rng};
use buttress_durable::consume::Start;

use crate::check::check_name;

/// The settings of a subscription.
#[derive(Clone, Debug)]
#[must_use]
pub struct Subscribe {
    pub(crate) group: String,
    pub(crate) start: Start,
    pub(crate) lease: Duration,
    pub(crate) ack_wait: Duration,
    pub(crate) clock: Clock,
    pub(crate) rng: Rng,
}

impl Subscribe {
    /// Creates the settings of a member of `group`. ASCII letters, digits, `-` and `_`, at most 64.
    pub fn new(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            start: Start::default(),
            lease: Duration::from_secs(10),
            ack_wait: Duration::from_secs(30),
            clock: Clock::default(),
            rng: Rng::default(),
        }
    }

    setters! {
        /// Sets where a new group starts. Default: [`Start::First`].
        start(start: Start);

        /// Sets how long a member owns its shards without a renewal. Default: 10 seconds. Between 1 second and 1 hour.
        ///
        /// The messages of a member that crashed wait this long, and up to a second more. A member renews four times
        /// per lease. All members of a group use the same value.
        lease(lease: Duration);

        /// Sets how long the server waits for a message that is neither settled nor kept. Default: 30 seconds. Between
        /// 1 second and 1 hour.
        ///
        /// The consumer keeps its messages twice in this time, so a handler may take longer. A member that takes over a
        /// shard does not wait for it.
        ack_wait(wait: Duration);

        /// Sets the clock of leases and waits. Default: tokio's clock.
        clock(clock: Clock);

        /// Sets the source of the member's id. Default: a source with a different seed in every process.
        rng(rng: Rng);
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        check_name("group", &self.group)?;
        let bounds = Duration::from_secs(1)..=Duration::from_secs(3600);
        InvalidConfig::check_range("lease", self.lease, bounds.clone())?;
        InvalidConfig::check_range("ack-wait", self.ack_wait, bounds)
    }

    /// Returns the name of the durable consumer of a shard.
    pub(crate) fn consumer(&self, shard: u16) -> String {
        format!("{}-{shard}", self.group)
    }
}
