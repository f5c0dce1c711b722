//! Taking over a shard: every message that the server has delivered and that was not acknowledged comes first.
//!
//! A server delivers such a message again only after the ack wait, and later messages meanwhile. A new owner that only
//! pulled would handle a later message of a key first. So it limits the unsettled messages of the consumer to one, so
//! that no later message comes, and sets its ack wait to a millisecond for a moment. The server then delivers all of
//! these messages again. The owner pulls them, counts them, and sorts them.
//!
//! A server that is slow brings fewer of them in a round. Then there is another round. The owner begins without a
//! message only if the answers to several rounds say that it is gone from the stream.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::consumer::PullConsumer;
use async_nats::jetstream::consumer::pull::BatchConfig;
use async_nats::jetstream::stream::ConsumerErrorKind;
use async_nats::{Subject, Subscriber};
use buttress::{Clock, StoreError};
use futures_util::StreamExt as _;

use crate::flow::{Arrived, Heard, heard};
use crate::nats::{ANSWER, Flowing, Nats, missing};

/// The number of rounds that miss the same number of messages, after which these messages are gone.
const ROUNDS: u32 = 6;
/// How long the first of them may take. The server checks 100 ms after the change of the ack wait.
const FIRST_ANSWER: Duration = Duration::from_millis(500);
/// How long the others may take.
const DELIVERY: Duration = Duration::from_secs(1);

/// A consumer of a shard, and its ack wait.
pub(crate) struct Shard<'a> {
    pub nats: &'a Nats,
    pub clock: &'a Clock,
    pub stream: &'a str,
    pub consumer: String,
    pub ack_wait: Duration,
    /// After this long a take-over rests until the leases are renewed.
    pub patience: Duration,
    /// No request lasts longer: a member that was stopped must get nothing after another one has taken over.
    pub lease_ends: Instant,
}

/// The findings of the rounds of a take-over so far.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// Messages that the last round has missed.
    missing: usize,
    /// How many rounds have missed as many.
    same: u32,
}

impl Rounds {
    /// Takes in a round that the server has answered. Returns `true` if the missing messages are gone from the stream:
    /// the server counts a message that an operator has deleted, and has none to deliver.
    fn are_gone(&mut self, missing: usize) -> bool {
        self.same = if missing == self.missing { self.same + 1 } else { 1 };
        self.missing = missing;
        self.same >= ROUNDS
    }
}

/// The result of a take-over: the position to pull from, and the messages to begin with, in the order of the stream.
pub(crate) struct Recovered {
    pub consumer: PullConsumer,
    pub subscriber: Subscriber,
    pub inbox: Subject,
    pub messages: VecDeque<Arrived>,
}

impl Shard<'_> {
    /// Brings back every message that the server has delivered and that was not acknowledged. Returns `None` if that
    /// needs further rounds.
    pub(crate) async fn recover(
        &self,
        rounds: &mut Rounds,
    ) -> Result<Option<Recovered>, StoreError> {
        let rests = self.clock.now() + self.patience;
        loop {
            let consumer = self.info().await?;
            let known = consumer.cached_info();
            let (pending, last) = (known.num_ack_pending, known.delivered.stream_sequence);
            let inbox = Subject::from(self.nats.client.new_inbox());
            let subscribing = self.nats.client.subscribe(inbox.clone()).await;
            let subscriber =
                subscribing.map_err(|error| self.failed("subscribe to an inbox", error))?;
            let mut pulling =
                Pulling { of: self, consumer, subscriber, inbox, found: BTreeMap::new() };
            if pending == 0 {
                self.mend(&pulling.consumer).await?;
                return Ok(Some(pulling.recovered()));
            }
            self.set(&pulling.consumer, Flowing::again(&pulling.consumer)).await?;
            let mut has_answered = pulling.pull(1, FIRST_ANSWER).await?;
            // Otherwise the messages would come again and again.
            self.set(&pulling.consumer, Flowing::Held(self.ack_wait)).await?;
            while has_answered && !pulling.found.is_empty() && pulling.found.len() < pending {
                let before = pulling.found.len();
                has_answered = pulling.pull(pending - before, DELIVERY).await?;
                if pulling.found.len() == before {
                    break;
                }
            }
            self.set(&pulling.consumer, Flowing::Normal(self.ack_wait)).await?;
            // A late change of an earlier owner can let later messages come.
            let early = pulling.found.keys().filter(|sequence| **sequence <= last).count();
            if early >= pending || (has_answered && rounds.are_gone(pending - early)) {
                return Ok(Some(pulling.recovered()));
            }
            if self.clock.now() >= rests {
                return Ok(None);
            }
        }
    }

    /// Resets the settings that an earlier owner changed for a take-over and left behind in a crash.
    pub(crate) async fn mend_now(&self) -> Result<(), StoreError> {
        self.mend(&self.info().await?).await
    }

    async fn mend(&self, known: &PullConsumer) -> Result<(), StoreError> {
        let config = &known.cached_info().config;
        if Flowing::is_taken_over(config.ack_wait, config.max_ack_pending) {
            self.set(known, Flowing::Normal(self.ack_wait)).await?;
        }
        Ok(())
    }

    async fn info(&self) -> Result<PullConsumer, StoreError> {
        match self.nats.consumer(self.stream, &self.consumer).await {
            Ok(Some(known)) => Ok(known),
            Ok(None) => {
                let (consumer, stream) = (&self.consumer, self.stream);
                let why = format!(
                    "the stream `{stream}` has no consumer `{consumer}`; subscribe again to create it"
                );
                Err(StoreError::misconfigured(why))
            }
            Err(error) => match error.kind() {
                ConsumerErrorKind::JetStream(inner)
                    if inner.error_code() == ErrorCode::STREAM_NOT_FOUND =>
                {
                    Err(missing(self.stream))
                }
                _ => Err(self.failed("ask for its state", error)),
            },
        }
    }

    async fn set(&self, known: &PullConsumer, flowing: Flowing) -> Result<(), StoreError> {
        self.nats.set(known, flowing).await.map_err(|error| {
            let name = &self.consumer;
            StoreError::transient(format!("consumer `{name}`: cannot set the ack wait: {error}"))
        })
    }

    fn failed(
        &self,
        what: &str,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> StoreError {
        StoreError::transient(format!("consumer `{}`: cannot {what}", self.consumer))
            .with_source(error)
    }
}

/// A take-over that has begun.
struct Pulling<'a> {
    of: &'a Shard<'a>,
    consumer: PullConsumer,
    subscriber: Subscriber,
    inbox: Subject,
    /// By their place in the stream.
    found: BTreeMap<u64, Arrived>,
}

impl Pulling<'_> {
    /// Pulls up to `count` messages. The server keeps the request for `expires`, or until the lease is about to end.
    /// Returns whether the server has sent them all, or has said that there are no more.
    async fn pull(&mut self, count: usize, expires: Duration) -> Result<bool, StoreError> {
        let clock = self.of.clock;
        let Some(expires) = lasting(expires, clock.now(), self.of.lease_ends) else {
            return Ok(false);
        };
        request(&self.consumer, &self.inbox, count, expires).await?;
        let (ends, mut left) = (clock.now() + expires + ANSWER, count);
        while left > 0 {
            let remaining = ends.saturating_duration_since(clock.now());
            let Some(Some(message)) = clock.within(remaining, self.subscriber.next()).await else {
                return Ok(false);
            };
            match heard(message) {
                Heard::Message(arrived) => {
                    left -= 1;
                    self.found.insert(arrived.about.sequence, *arrived);
                }
                Heard::Beat => {}
                Heard::Ended(_) => break,
                Heard::Lost | Heard::Deleted => return Ok(false),
            }
        }
        Ok(true)
    }

    fn recovered(self) -> Recovered {
        let Self { consumer, subscriber, inbox, found, .. } = self;
        Recovered { consumer, subscriber, inbox, messages: found.into_values().collect() }
    }
}

/// Returns how long a request for messages may last, so that it ends before the lease.
pub(crate) fn lasting(expires: Duration, now: Instant, lease_ends: Instant) -> Option<Duration> {
    let expires = expires.min(lease_ends.saturating_duration_since(now) * 9 / 10);
    (!expires.is_zero()).then_some(expires)
}

/// Asks for messages. The server sends them to `inbox` as they come.
pub(crate) async fn request(
    consumer: &PullConsumer,
    inbox: &Subject,
    batch: usize,
    expires: Duration,
) -> Result<(), StoreError> {
    let batch = BatchConfig { batch, expires: Some(expires), ..BatchConfig::default() };
    consumer.request_batch(batch, inbox.clone()).await.map_err(|error| {
        let name = &consumer.cached_info().name;
        StoreError::transient(format!("consumer `{name}`: cannot ask for messages"))
            .with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_gone_only_after_rounds_that_miss_as_many() {
        let mut rounds = Rounds::default();
        for _ in 1..ROUNDS {
            assert!(!rounds.are_gone(3), "a slow server brings fewer in a round");
        }
        assert!(!rounds.are_gone(2), "another message has come");
        for _ in 2..ROUNDS {
            assert!(!rounds.are_gone(2));
        }
        assert!(rounds.are_gone(2));
    }

    #[test]
    fn a_request_ends_before_the_lease() {
        let now = Clock::default().now();
        let second = Duration::from_secs(1);
        assert_eq!(lasting(second, now, now + 10 * second), Some(second));
        assert_eq!(lasting(second, now, now + second), Some(second * 9 / 10));
        assert_eq!(lasting(second, now, now), None);
        assert_eq!(lasting(second, now + second, now), None);
    }
}
