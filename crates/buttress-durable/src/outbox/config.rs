use std::fmt;
use std::time::Duration;

use buttress::{Clock, InvalidConfig, Name, Rng, Spawner, retry::Backoff};

use crate::check::{check_at_least, check_duration, check_range};

/// What happens behind a message that has used up its attempts.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum HeadOfKey {
    /// It becomes a dead letter and the messages behind it go on. The default: one bad message must not
    /// stop a key for good.
    #[default]
    Continue,
    /// It becomes a dead letter, and its key is held until an operator requeues or discards it, for
    /// consumers that must not see what comes later without it.
    Block,
}

/// How a relay works.
///
/// Built with by-value setters; checked when a [`Relay`](super::Relay) is made of it.
#[derive(Clone)]
#[must_use]
pub struct Config {
    pub(super) name: Name,
    pub(super) clock: Clock,
    pub(super) rng: Rng,
    pub(super) spawner: Spawner,
    pub(super) batch: usize,
    pub(super) poll: Duration,
    pub(super) idle_poll: Duration,
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) max_hint: Duration,
    pub(super) max_starts: u32,
    pub(super) publish_timeout: Duration,
    pub(super) concurrency: usize,
    pub(super) lease: Duration,
    pub(super) head_of_key: HeadOfKey,
    pub(super) keep_delivered: Duration,
    pub(super) purge_batch: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: Name::default(),
            clock: Clock::default(),
            rng: Rng::default(),
            spawner: Spawner::default(),
            batch: 100,
            poll: Duration::from_millis(100),
            idle_poll: Duration::from_secs(1),
            attempts: 5,
            backoff: Backoff::exponential(Duration::from_millis(100)),
            max_hint: Duration::from_secs(24 * 3600),
            max_starts: 3,
            publish_timeout: Duration::from_secs(30),
            concurrency: 64,
            lease: Duration::from_secs(30),
            head_of_key: HeadOfKey::default(),
            keep_delivered: Duration::from_secs(24 * 3600),
            purge_batch: 1000,
        }
    }
}

impl Config {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The name in logs and metrics: "outbox" without a name.
    pub(super) fn layer(&self) -> Name {
        match self.name.as_str() {
            "" => Name::from("outbox"),
            _ => self.name,
        }
    }

    /// The name in events. Defaults to none.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// The clock. Defaults to tokio's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Where ids and jitter come from. Defaults to a source seeded differently in every process.
    pub fn rng(mut self, rng: Rng) -> Self {
        self.rng = rng;
        self
    }

    /// Where [`Relay::spawn`](super::Relay::spawn) runs it. Defaults to `tokio::spawn`.
    pub fn spawner(mut self, spawner: Spawner) -> Self {
        self.spawner = spawner;
        self
    }

    /// How many messages are fetched at once. Defaults to 100; at most 10 000.
    pub fn batch(mut self, messages: usize) -> Self {
        self.batch = messages;
        self
    }

    /// How long the relay waits after it found less than a batch, unless it is woken. Defaults to
    /// 100 ms. After ten looks that found nothing the wait doubles with each, up to
    /// [`idle_poll`](Self::idle_poll).
    pub fn poll(mut self, interval: Duration) -> Self {
        self.poll = interval;
        self
    }

    /// The longest wait between two looks. Defaults to 1 second: how late a message comes that another
    /// process wrote after a quiet time. At least [`poll`](Self::poll).
    pub fn idle_poll(mut self, interval: Duration) -> Self {
        self.idle_poll = interval;
        self
    }

    /// How often a message is attempted, and how long its key is held after each failure; a hint of the
    /// failure is a floor, up to [`max_hint`](Self::max_hint). Defaults to 5, exponential from 100 ms with full jitter.
    pub fn retry(mut self, attempts: u32, backoff: Backoff) -> Self {
        self.attempts = attempts;
        self.backoff = backoff;
        self
    }

    /// The longest hint of a failure (`Retry-After`, a limiter's own) that a key is held for; a longer one
    /// counts as this. Defaults to a day: whatever a publisher says, no key is held for good without a
    /// dead letter to requeue.
    pub fn max_hint(mut self, time: Duration) -> Self {
        self.max_hint = time;
        self
    }

    /// How often a message may be started alone and bring the relay down before it is given up. Defaults
    /// to 3.
    pub fn max_starts(mut self, starts: u32) -> Self {
        self.max_starts = starts;
        self
    }

    /// How long the publisher may take for a message, including getting ready. Defaults to 30 seconds.
    pub fn publish_timeout(mut self, timeout: Duration) -> Self {
        self.publish_timeout = timeout;
        self
    }

    /// How many messages, each of another key, are published at once. Defaults to 64.
    pub fn concurrency(mut self, keys: usize) -> Self {
        self.concurrency = keys;
        self
    }

    /// How long the relay owns its partitions without renewing, which it does three times in that time at
    /// least, and after ten [`poll`](Self::poll)s: partitions that another relay gave up wait for that.
    /// Defaults to 30 seconds: so long the messages of a relay that crashed wait.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// What happens behind a message that has used up its attempts. Defaults to
    /// [`HeadOfKey::Continue`].
    pub fn head_of_key(mut self, policy: HeadOfKey) -> Self {
        self.head_of_key = policy;
        self
    }

    /// How long delivered messages are kept, and how many are removed by one transaction. Defaults: a day,
    /// and 1000. The relay purges beside its deliveries: after a whole batch immediately again, otherwise
    /// every second to every minute.
    pub fn keep_delivered(mut self, age: Duration, batch: usize) -> Self {
        self.keep_delivered = age;
        self.purge_batch = batch;
        self
    }

    /// The longest time from the first attempt at a message to the end of its last: `attempts` publish
    /// timeouts, and between two attempts the longest wait of the backoff or
    /// [`max_hint`](Self::max_hint), whichever is longer. Refusals that are no attempts, time in an outage,
    /// and time as a dead letter come on top.
    ///
    /// Consumers must remember receipts for longer than that: a message that is delivered again later runs
    /// again.
    #[must_use]
    pub fn longest_retry(&self) -> Duration {
        let waits = self.attempts.saturating_sub(1);
        let wait = self.backoff.longest().max(self.max_hint);
        wait.saturating_mul(waits)
            .saturating_add(self.publish_timeout.saturating_mul(self.attempts))
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        check_range("batch", self.batch, 1, 10_000)?;
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

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("name", &self.name)
            .field("batch", &self.batch)
            .field("lease", &self.lease)
            .finish_non_exhaustive()
    }
}
