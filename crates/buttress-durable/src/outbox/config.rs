use std::time::Duration;

use buttress::{InvalidConfig, retry::Backoff};

use crate::check::{check_at_least, check_duration};
use crate::setters::{Common, common_setters, retry_setter, setters, settings};

/// The state of a key after one of its messages has used up its attempts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HeadOfKey {
    /// The message becomes a dead letter, and the relay continues with the next messages of the
    /// key. The default: one bad message must not stop a key forever.
    #[default]
    Continue,
    /// The message becomes a dead letter, and the store holds the key until an operator requeues or
    /// discards the message. Use this for consumers that must see the messages of a key without
    /// gaps.
    Block,
}

settings! {
    /// The configuration of a relay.
    ///
    /// Setters take and return the value. [`Relay::new`](super::Relay::new) checks the values.
    #[derive(Clone, Debug)]
    pub struct Config {
        common: Common = Common::default(),
        batch: usize = 100,
        poll: Duration = Duration::from_millis(100),
        idle_poll: Duration = Duration::from_secs(1),
        attempts: u32 = 5,
        backoff: Backoff = Backoff::exponential(Duration::from_millis(100)),
        max_hint: Duration = Duration::from_secs(24 * 3600),
        max_starts: u32 = 3,
        publish_timeout: Duration = Duration::from_secs(30),
        concurrency: usize = 64,
        lease: Duration = Duration::from_secs(30),
        head_of_key: HeadOfKey = HeadOfKey::default(),
        keep_delivered: Duration = Duration::from_secs(24 * 3600),
        purge_batch: usize = 1000,
    }
}

impl Config {
    common_setters!("outbox", "[`Relay::spawn`](super::Relay::spawn) runs the relay");

    setters! {
        /// Sets how many messages the relay fetches per query. Default: 100. Between 1 and 10 000.
        batch(messages: usize);

        /// Sets how long the relay waits after a poll that found less than a batch. Default: 100 ms.
        /// Above zero, at most 365 days.
        ///
        /// [`Written::committed`](super::Written::committed) ends the wait early. After ten polls that
        /// found nothing, each further one doubles the wait, up to [`idle_poll`](Self::idle_poll).
        poll(interval: Duration);

        /// Sets the longest wait between two polls. Default: 1 second. At least [`poll`](Self::poll),
        /// at most 365 days.
        ///
        /// A message that another process wrote after a quiet time may wait this long.
        idle_poll(interval: Duration);
    }

    retry_setter! {
        /// Sets the number of attempts per message, and the wait after each failed attempt. Default: 5
        /// attempts, exponential from 100 ms with full jitter. At least 1 attempt.
        ///
        /// The store holds the key of the message during the wait. The wait is at least the hint of the
        /// failure, up to [`max_hint`](Self::max_hint).
    }

    setters! {
        /// Sets the longest hint of a failure that the relay follows. Default: 24 hours. Above zero, at
        /// most 365 days.
        ///
        /// A hint comes from a `Retry-After` or from a limiter. A longer hint counts as this value, so
        /// no hint of a publisher can hold a key forever.
        max_hint(time: Duration);

        /// Sets how many times a relay may start a suspect message alone and crash, before the message
        /// becomes a dead letter. Default: 3. At least 1.
        max_starts(starts: u32);

        /// Sets how long the publisher may take per message, readiness included. Default: 30 seconds.
        /// Above zero, at most 365 days.
        publish_timeout(timeout: Duration);

        /// Sets how many messages the relay publishes concurrently, each of a different key. Default:
        /// 64. At least 1.
        concurrency(keys: usize);

        /// Sets how long the relay owns its partitions without a renewal. Default: 30 seconds. Above
        /// zero, at most 365 days.
        ///
        /// The messages of a relay that crashed wait this long. The relay renews three times per lease,
        /// or every ten [`poll`](Self::poll)s if that is sooner. With a renewal it also takes
        /// partitions that another relay released.
        ///
        /// A delivery that holds a transaction on the relay's SQLite file must be shorter, because the
        /// relay cannot renew its lease meanwhile.
        lease(lease: Duration);

        /// Sets the state of a key after one of its messages has used up its attempts. Default:
        /// [`HeadOfKey::Continue`].
        head_of_key(policy: HeadOfKey);
    }

    /// Sets how long the store keeps delivered messages, and how many messages one purge removes.
    /// Default: 24 hours, and 1000 messages. The time is above zero and at most 365 days; the
    /// number is at least 1.
    ///
    /// The relay purges concurrently with its deliveries. After a full purge it purges again
    /// immediately, and each further purge may remove twice as many messages, up to eight batches.
    /// After any other purge the relay waits 1 to 60 seconds, and begins with one batch again.
    pub fn keep_delivered(mut self, age: Duration, batch: usize) -> Self {
        self.keep_delivered = age;
        self.purge_batch = batch;
        self
    }

    /// Returns the longest time from the first attempt at a message to the end of its last attempt.
    ///
    /// The sum has `attempts` publish timeouts, and one wait between two attempts. A wait is the
    /// longest backoff or [`max_hint`](Self::max_hint), whichever is longer. Results that the
    /// classifier ignores, outages of the store and time as a dead letter are not included.
    ///
    /// Consumers must keep receipts for longer than this time. A message that is delivered after
    /// its receipt was removed runs again.
    #[must_use]
    pub fn longest_retry(&self) -> Duration {
        let waits = self.attempts.saturating_sub(1);
        let wait = self.backoff.longest().max(self.max_hint);
        wait.saturating_mul(waits)
            .saturating_add(self.publish_timeout.saturating_mul(self.attempts))
    }

    /// Checks the values, and that a store keeps its receipts for long enough.
    pub(super) fn check_with(&self, receipts_kept: Option<Duration>) -> Result<(), InvalidConfig> {
        self.check()?;
        let needed = self.longest_retry();
        match receipts_kept.filter(|kept| *kept < needed) {
            Some(kept) => {
                let bound = format!(
                    "at least {needed:?}, the longest retry time of the relay (attempts, backoff, max-hint and \
                     publish-timeout)"
                );
                Err(InvalidConfig::new("keep-receipts", format!("{kept:?}"), bound))
            }
            None => Ok(()),
        }
    }

    fn check(&self) -> Result<(), InvalidConfig> {
        InvalidConfig::check_range("batch", self.batch, 1..=10_000)?;
        check_duration("poll", self.poll)?;
        check_duration("idle-poll", self.idle_poll)?;
        if self.idle_poll < self.poll {
            let bound = format!("at least poll, {:?}", self.poll);
            return Err(InvalidConfig::new("idle-poll", format!("{:?}", self.idle_poll), bound));
        }
        check_at_least("attempts", self.attempts, 1)?;
        self.backoff.check()?;
        check_duration("max-hint", self.max_hint)?;
        check_at_least("max-starts", self.max_starts, 1)?;
        check_duration("publish-timeout", self.publish_timeout)?;
        check_at_least("concurrency", self.concurrency, 1)?;
        check_duration("lease", self.lease)?;
        check_duration("keep-delivered", self.keep_delivered)?;
        check_at_least("purge-batch", self.purge_batch, 1)
    }
}
