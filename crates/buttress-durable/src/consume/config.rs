//! The configuration of a consumer.

use std::time::Duration;

use buttress::{InvalidConfig, retry::Backoff};

use super::source::Limits;
use super::state::Rules;
use crate::check::{check_at_least, check_duration};
use crate::setters::{Common, common_setters, retry_setter, setters};

/// The bytes of messages that may wait behind earlier ones of their keys, besides other messages.
const BEHIND_BYTES: usize = 16 << 20;

/// Which messages a consumer handles one after the other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Order {
    /// Messages of one key, in the order of their delivery. The default: it is the order that the outbox keeps.
    #[default]
    ByKey,
    /// None. All messages are handled concurrently, in any order.
    None,
}

/// The policy for a key, one of whose messages became a dead letter.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum OnDead {
    /// The key continues with its next message. The default: one bad message must not stop a key forever.
    #[default]
    Continue,
    /// Later messages of the key become dead letters behind it, until an operator has replayed or removed them. Use
    /// it for handlers that must see the messages of a key without gaps. It asks the store of the dead letters for each key
    /// that becomes active.
    Park,
}

/// The policy for an event whose kind or version the handler does not know.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Unknown {
    /// The event is acknowledged without an effect. Use it where a topic carries events that are not for this consumer.
    Ack,
    /// The event becomes a dead letter immediately. This is the default: no delivery is lost, and a newer version can
    /// replay the letter.
    #[default]
    Dead,
    /// The event is attempted again, as after any other failure. During a rollout a newer version may take it over.
    Again,
}

/// The configuration of a consumer.
///
/// Setters take and return the value. [`Consumer::new`](super::Consumer::new) checks the values.
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    pub(super) common: Common,
    pub(super) concurrency: usize,
    pub(super) prefetch: usize,
    pub(super) behind: usize,
    pub(super) order: Order,
    pub(super) attempts: u32,
    pub(super) backoff: Backoff,
    pub(super) max_hint: Duration,
    pub(super) max_redeliveries: u32,
    pub(super) on_dead: OnDead,
    pub(super) unknown: Unknown,
    pub(super) handler_timeout: Duration,
    pub(super) drain: Duration,
    pub(super) due_poll: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            common: Common::default(),
            concurrency: 64,
            prefetch: 64,
            behind: 1000,
            order: Order::default(),
            attempts: 5,
            backoff: Backoff::exponential(Duration::from_millis(200)).cap(Duration::from_secs(30)),
            max_hint: Duration::from_secs(24 * 3600),
            max_redeliveries: 20,
            on_dead: OnDead::default(),
            unknown: Unknown::default(),
            handler_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(30),
            due_poll: Duration::from_secs(1),
        }
    }
}

impl Config {
    /// Creates the default configuration.
    pub fn new() -> Self {
        Self::default()
    }

    common_setters!("consumer", "[`Consumer::spawn`](super::Consumer::spawn) runs the consumer");

    setters! {
        /// Sets how many messages are handled concurrently, each of a different key. Default: 64. Between 1 and
        /// 10 000. All handlers run on the consumer's task.
        concurrency(messages: usize);

        /// Sets how many messages the consumer holds besides the messages that are being handled. Default: 64. At most
        /// 10 000.
        ///
        /// Messages that wait for their next attempt count here. With none the consumer holds only messages that it
        /// handles, and waits for the transport after each.
        prefetch(messages: usize);

        /// Sets how many messages may wait behind an earlier one of their key, besides
        /// [`concurrency`](Self::concurrency) and [`prefetch`](Self::prefetch). Default: 1000, up to about 16 MiB of
        /// them. At most 100 000.
        ///
        /// While a message waits for its next attempt, the later ones of its key wait behind it. Up to this number
        /// they take no room from other keys. Further messages do: a key with more messages than that stops the other
        /// keys until its first message is handled or dead.
        behind(messages: usize);

        /// Sets which messages are handled one after the other. Default: [`Order::ByKey`].
        order(order: Order);
    }

    retry_setter! {
        /// Sets the number of attempts per message, and the wait after each failed attempt. Default: 5 attempts,
        /// exponential from 200 ms to 30 s with full jitter. At least 1 attempt.
        ///
        /// The message rests in memory, and later messages of its key wait behind it. The wait is at least the hint of
        /// the failure, up to [`max_hint`](Self::max_hint).
    }

    setters! {
        /// Sets the longest hint of a failure that the consumer follows. Default: 24 hours. Above zero, at most 365
        /// days. A hint comes from a `Retry-After` or from a limiter.
        max_hint(time: Duration);

        /// Sets after how many redeliveries a message becomes a dead letter without being handled. Default: 20. At
        /// least 1. Only transports that count redeliveries apply it.
        ///
        /// It protects against a message that ends the process. Lost connections and shutdowns count too, so the
        /// number is larger than the attempts.
        max_redeliveries(redeliveries: u32);

        /// Sets the state of a key after a dead letter. Default: [`OnDead::Continue`].
        on_dead(policy: OnDead);

        /// Sets the treatment of unknown events. Default: [`Unknown::Dead`].
        unknown(policy: Unknown);

        /// Sets how long the handler may take per attempt, readiness included. Default: 30 seconds. Above zero, at
        /// most 365 days. It is also the deadline of the handler's context.
        handler_timeout(timeout: Duration);

        /// Sets how long a shutdown waits for handlers. Default: 30 seconds. Above zero, at most 365 days.
        drain(timeout: Duration);

        /// Sets how often the consumer looks for dead letters whose due time has come. Default: 1 second. Above zero,
        /// at most 365 days. Only transports with [`Limits::hold`] make such letters.
        due_poll(interval: Duration);
    }

    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        InvalidConfig::check_range("concurrency", self.concurrency, 1..=10_000)?;
        InvalidConfig::check_range("prefetch", self.prefetch, 0..=10_000)?;
        InvalidConfig::check_range("behind", self.behind, 0..=100_000)?;
        check_at_least("attempts", self.attempts, 1)?;
        self.backoff.check()?;
        check_at_least("max-redeliveries", self.max_redeliveries, 1)?;
        for (field, time) in [
            ("max-hint", self.max_hint),
            ("handler-timeout", self.handler_timeout),
            ("drain", self.drain),
            ("due-poll", self.due_poll),
        ] {
            check_duration(field, time)?;
        }
        Ok(())
    }

    pub(super) fn rules(&self, limits: &Limits) -> Rules {
        Rules {
            concurrency: self.concurrency,
            capacity: self.concurrency.saturating_add(self.prefetch),
            behind: self.behind,
            behind_bytes: BEHIND_BYTES,
            attempts: self.attempts,
            most_redeliveries: self.max_redeliveries,
            max_hint: self.max_hint,
            hold: limits.hold,
            by_key: self.order == Order::ByKey,
            park: self.on_dead == OnDead::Park,
        }
    }
}
