//! [`Subscribe`]: the settings of a group and its members.

use std::time::Duration;

use buttress::__setters as setters;
use buttress::InvalidConfig;
use buttress_durable::consume::Start;

use crate::check::check_name;

/// The settings of a subscription.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Subscribe {
    pub(crate) group: String,
    pub(crate) start: Start,
    pub(crate) session: Duration,
    pub(crate) grace: Duration,
    pub(crate) window: usize,
}

impl Subscribe {
    /// Creates the settings of a member of `group`: 1 to 249 ASCII letters, digits, `-`, `_` or `.`.
    pub fn new(group: impl Into<String>) -> Self {
        let (session, grace) = (Duration::from_secs(10), Duration::from_millis(1500));
        Self { group: group.into(), start: Start::default(), session, grace, window: 1000 }
    }

    setters! {
        /// Sets where a new group starts. Default: [`Start::First`].
        start(start: Start);

        /// Sets how long the partitions of a member that does not answer stay with it: the `session.timeout.ms` of
        /// Kafka. Default: 10 seconds. Between 100 ms and 30 minutes; brokers take 6 seconds and more by default.
        ///
        /// After a crash other members take over within this time and a rebalance.
        session(session: Duration);

        /// Sets how long a partition that goes to another member waits for its messages that are being handled.
        /// Default: 1.5 seconds. Between 0 and 1 minute.
        ///
        /// A message that is not handled by then is handled by the other member too. The other partitions of this
        /// member deliver nothing meanwhile.
        grace(grace: Duration);

        /// Sets how many messages of a partition are delivered, counted from its first message that is not handled.
        /// Default: 1000. Between 1 and 100 000.
        ///
        /// Kafka keeps one position per partition. So a message that waits for its next attempt holds the position, and
        /// after a crash up to this many handled messages of each partition are handled again.
        window(messages: usize);
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        check_name("group", &self.group)?;
        let half_an_hour = Duration::from_secs(1800);
        InvalidConfig::check_range(
            "session",
            self.session,
            Duration::from_millis(100)..=half_an_hour,
        )?;
        InvalidConfig::check_range("grace", self.grace, Duration::ZERO..=Duration::from_secs(60))?;
        InvalidConfig::check_range("window", self.window, 1..=100_000)
    }
}
