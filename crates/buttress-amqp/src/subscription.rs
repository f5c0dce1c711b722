//! [`Subscription`]: one member of a group, as the source of a consumer.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use buttress::StoreError;
use buttress_durable::consume::{Answer, Batch, Limits, Settle, Source};
use futures_util::future::join_all;
use lapin::options::BasicAckOptions;
use lapin::{Channel, Connection};
use tokio::sync::Notify;

use crate::rabbit::Rabbit;
use crate::subscribe::Subscribe;
use crate::topic::Topic;

mod driver;
mod state;

use driver::Driver;
use state::{Ack, Holding};

/// The longest rest of a message between two attempts. RabbitMQ closes the channel of a message that is not
/// acknowledged for its `consumer_timeout`, 30 minutes by default and 15 in some releases.
const HOLD: Duration = Duration::from_secs(60);
/// The first and the longest wait between two attempts to reach the server.
const WAITS: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(1)];

/// One member of a group: the [`Source`] of a [`Consumer`](buttress_durable::consume::Consumer). Made by
/// [`Rabbit::subscribe`].
///
/// RabbitMQ delivers the messages of a shard to one member at a time, and chooses another member when the connection
/// of that one is gone. A member whose connection is lost connects again inside [`receive`](Source::receive), declares
/// the queues, and consumes again.
pub struct Subscription {
    rabbit: Rabbit,
    topic: Topic,
    settings: Subscribe,
    holding: Mutex<Holding>,
    /// The open channel of each shard, with its epoch.
    channels: Mutex<Vec<Option<(u64, Channel)>>>,
    /// Notified when the consumer has more room.
    more: Notify,
    driver: tokio::sync::Mutex<Driver>,
}

/// The token that settles one delivery. It has no effect after its channel has closed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Token {
    shard: u16,
    epoch: u64,
    tag: u64,
}

impl Subscription {
    pub(crate) fn new(
        rabbit: Rabbit,
        topic: &Topic,
        settings: Subscribe,
        connection: Connection,
    ) -> Self {
        let shards = topic.shards;
        Self {
            rabbit,
            topic: topic.clone(),
            settings,
            holding: Mutex::new(Holding::new(shards)),
            channels: Mutex::new(vec![None; usize::from(shards)]),
            more: Notify::new(),
            driver: tokio::sync::Mutex::new(Driver::new(shards, connection)),
        }
    }

    fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in the channel of a shard, or that there is none.
    fn set_channel(&self, shard: u16, channel: Option<(u64, Channel)>) {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = channels.get_mut(usize::from(shard)) {
            *known = channel;
        }
    }

    /// Returns the channel of a shard, unless it is another one by now.
    fn channel(&self, shard: u16, epoch: u64) -> Option<Channel> {
        let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let (known, channel) = channels.get(usize::from(shard))?.as_ref()?;
        (*known == epoch).then(|| channel.clone())
    }

    /// Sends an acknowledgement. Returns `false` if the channel is gone.
    async fn acknowledge(&self, ack: Ack) -> bool {
        let Some(channel) = self.channel(ack.shard, ack.epoch) else { return false };
        let options = BasicAckOptions { multiple: ack.multiple };
        channel.basic_ack(ack.tag, options).await.is_ok()
    }
}

impl Source for Subscription {
    type Token = Token;

    fn name(&self) -> &str {
        &self.topic.name
    }

    fn group(&self) -> &str {
        &self.settings.group
    }

    /// The consumer holds a message for up to a minute between two attempts. RabbitMQ waits for it.
    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.hold = Some(HOLD);
        limits
    }

    fn announce_capacity(&self, messages: usize) {
        self.holding().announce(messages);
    }

    fn want(&self, room: usize) {
        if self.holding().want(room) {
            self.more.notify_one();
        }
    }

    async fn receive(&self) -> Result<Batch<Token>, StoreError> {
        let mut driver = self.driver.lock().await;
        let [mut wait, longest] = WAITS;
        loop {
            let error = match driver.tend(self).await {
                Ok(()) => match driver.next(self).await {
                    Some(batch) => return Ok(batch),
                    None => continue,
                },
                Err(error) => error,
            };
            if !error.is_transient() || !driver.in_trouble {
                driver.in_trouble = true;
                return Err(error);
            }
            // The error was reported to the consumer once, which logs it. It would come back only after the consumer's
            // wait.
            self.settings.clock.sleep(wait).await;
            wait = (wait * 2).min(longest);
        }
    }

    async fn settle(&self, done: &[(Token, Settle)]) -> Result<Vec<Answer>, StoreError> {
        let (mut answers, acks) = self.holding().settle(done);
        if !acks.is_empty() {
            // A shard may have room again.
            self.more.notify_one();
        }
        let sending = join_all(acks.iter().map(|ack| self.acknowledge(*ack)));
        let limit = self.rabbit.limit;
        // A client that does not send has lost its connection, or RabbitMQ does not read from it.
        let sent = self.settings.clock.within(limit, sending).await;
        let gone = |shard: u16| match &sent {
            Some(sent) => acks.iter().zip(sent).any(|(ack, sent)| ack.shard == shard && !sent),
            None => true,
        };
        for ((token, how), answer) in done.iter().zip(&mut answers) {
            if *how == Settle::Done
                && acks.iter().any(|ack| ack.shard == token.shard)
                && gone(token.shard)
            {
                *answer = Answer::Late;
            }
        }
        Ok(answers)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.driver.lock().await.close(self).await
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("topic", &self.topic.name)
            .field("group", &self.settings.group)
            .finish_non_exhaustive()
    }
}
