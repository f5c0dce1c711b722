//! [`Subscribe`]: the settings of a group and its members.

use std::time::Duration;

use buttress::__setters as setters;
use buttress::{Clock, InvalidConfig};

use crate::check::check_name;

/// The settings of a subscription.
///
/// A new group receives the messages that are published after its first subscription: RabbitMQ keeps nothing for later
/// groups. A group that exists continues where it was.
#[derive(Clone, Debug)]
#[must_use]
pub struct Subscribe {
    pub(crate) group: String,
    pub(crate) prefetch: Option<u16>,
    pub(crate) delivery_limit: u32,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) retry_after: Duration,
    pub(crate) clock: Clock,
}

impl Subscribe {
    /// Creates the settings of a member of `group`, a name of at most 64 ASCII letters, digits, `-` and `_`.
    pub fn new(group: impl Into<String>) -> Self {
        Self {
            group: group.into(),
            prefetch: None,
            delivery_limit: 1000,
            max_bytes: None,
            retry_after: Duration::from_secs(5),
            clock: Clock::default(),
        }
    }

    setters! {
        /// Sets how many unsettled messages of a shard RabbitMQ delivers to a member. Default: an equal part of the
        /// messages that the consumer holds (its concurrency and its prefetch), or of 128 if it holds more; e.g. 16 of
        /// 8 shards with default settings. Between 1 and 2000.
        ///
        /// By default the consumer gets an equal part of its room from each shard, so that one shard cannot take it
        /// all. A prefetch that you set is this limit too. Give all members of a group the same settings: RabbitMQ puts
        /// the messages of a lost member behind returned messages that still wait. If members with a smaller prefetch
        /// follow and are lost too, later messages of a key come before earlier ones.
        prefetch(messages: u16) => Some(messages);

        /// Sets after how many returned deliveries RabbitMQ moves a message to the group's dead queue. Default: 1000.
        /// At least 1.
        ///
        /// It is the last resort. The consumer makes a dead letter after
        /// [`max_redeliveries`](buttress_durable::consume::Config::max_redeliveries), which is 20 by default. Keep this
        /// number far above: shutdowns and lost connections count too.
        delivery_limit(deliveries: u32);

        /// Sets the largest size of a shard's queue in bytes. Default: no limit. At least 1.
        ///
        /// A full queue refuses messages ([`PublishError::Full`](crate::PublishError::Full)), and drops none.
        max_bytes(bytes: u64) => Some(bytes);

        /// Sets how long a message waits that [`Dead::retry`](crate::Dead::retry) returns to its queue. Default: 5
        /// seconds. Between 1 ms and 30 days.
        retry_after(wait: Duration);

        /// Sets the clock of waits. Default: tokio's clock.
        clock(clock: Clock);
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        check_name("group", &self.group)?;
        InvalidConfig::check_range("prefetch", self.prefetch.unwrap_or(1), 1..=2000)?;
        InvalidConfig::check_range("delivery-limit", self.delivery_limit, 1..=i32::MAX as u32)?;
        InvalidConfig::check_range("max-bytes", self.max_bytes.unwrap_or(1), 1..=i64::MAX as u64)?;
        let month = Duration::from_secs(30 * 24 * 3600);
        InvalidConfig::check_range(
            "retry-after",
            self.retry_after,
            Duration::from_millis(1)..=month,
        )
    }
}
