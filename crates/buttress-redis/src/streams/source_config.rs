//! The settings of a source.

use std::time::Duration;

use buttress::__const_setters as const_setters;
use buttress::InvalidConfig;
use buttress_durable::consume::Start;

use super::state::Rules;
use crate::check::check_duration;
use crate::error::Error;

/// The settings of a source.
///
/// Setters take and return the value. [`Redis::source`](crate::Redis::source) checks the values.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct SourceConfig {
    pub(super) start: Start,
    pub(super) lease: Duration,
    handover: Duration,
    read_ahead: usize,
}

impl Default for SourceConfig {
    fn default() -> Self {
        Self {
            start: Start::First,
            lease: Duration::from_secs(10),
            handover: Duration::from_secs(30),
            read_ahead: 256,
        }
    }
}

impl SourceConfig {
    /// Creates the default settings.
    pub fn new() -> Self {
        Self::default()
    }

    const_setters! {
        /// Sets where the group begins if it does not exist. Default: [`Start::First`].
        start(start: Start);

        /// Sets how long a shard stays with a process that does not renew its lease. Default: 10 seconds. Between 100
        /// ms and 365 days.
        ///
        /// After a crash another process takes over within this time and one second. A process that does not run for
        /// this long, e.g. because its machine is suspended, loses its shards.
        lease(lease: Duration);

        /// Sets how long a shard that goes to another process waits for its messages that are being handled. Default:
        /// 30 seconds, as the handler's limit of a consumer. Between 1 ms and 365 days.
        ///
        /// A message that is not handled by then is handled by the other process too.
        handover(handover: Duration);

        /// Sets how many messages the source holds besides the messages of the consumer. Default: 256. Between 1 and 10
        /// 000.
        ///
        /// Above 16 MiB the source reads one message at a time.
        read_ahead(messages: usize);
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_duration("lease", self.lease, Duration::from_millis(100))?;
        check_duration("handover", self.handover, Duration::from_millis(1))?;
        InvalidConfig::check_range("read-ahead", self.read_ahead, 1..=10_000)
    }

    pub(super) fn rules(&self) -> Rules {
        Rules {
            lease: self.lease,
            every: (self.lease / 4).min(Duration::from_millis(500)),
            handover: self.handover,
            ahead: self.read_ahead,
            bytes: 16 << 20,
        }
    }
}

/// The reason why a source was not opened.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of its bounds.
    #[error(transparent)]
    Config(#[from] InvalidConfig),
    /// Redis does not answer, or refuses.
    #[error(transparent)]
    Redis(#[from] Error),
}
