//! [`Subscription`]: one member of a group, as the source of a consumer.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::Subject;
use async_nats::jetstream::stream::Stream;
use buttress::StoreError;
use buttress_durable::consume::{Answer, Batch, Limits, Settle, Source};
use tokio::sync::{Notify, RwLock};

use crate::ack::Kind;
use crate::driver::{Driver, LOOK};
use crate::lease::{Leases, Membership};
use crate::nats::Nats;
use crate::state::Holding;
use crate::subscribe::Subscribe;
use crate::topic::Topic;

/// One member of a group: the [`Source`] of a [`Consumer`](buttress_durable::consume::Consumer). Made by
/// [`Nats::subscribe`].
///
/// The members of a group share its shards by leases, and renew them inside [`receive`](Source::receive). A member that
/// crashes, or that is dropped without a shutdown of its consumer, keeps its shards until the lease has run out.
pub struct Subscription {
    pub(crate) nats: Nats,
    pub(crate) topic: Topic,
    pub(crate) settings: Subscribe,
    holding: Mutex<Holding>,
    /// Notified when the consumer has more room.
    pub(crate) more: Notify,
    driver: tokio::sync::Mutex<Driver>,
    /// Settling reads. A take-over writes: while it counts messages, none may be acknowledged.
    pub(crate) settling: RwLock<()>,
}

/// The token that settles one delivery.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Token {
    pub(crate) shard: u16,
    pub(crate) epoch: u64,
    /// The number of the stream's life.
    pub(crate) life: u64,
    pub(crate) sequence: u64,
    pub(crate) reply: Subject,
}

impl Subscription {
    pub(crate) fn new(nats: Nats, topic: &Topic, settings: Subscribe, tables: Stream<()>) -> Self {
        let me = format!("{:016x}", settings.rng.next_u64());
        let membership = Membership::new(me, settings.lease);
        let (tables, clock) = ((nats.jetstream.clone(), tables), settings.clock.clone());
        let subject = topic.table(&settings.group);
        let leases = Leases::new(membership, tables, subject, topic.shards, clock);
        Self {
            nats,
            topic: topic.clone(),
            settings,
            holding: Mutex::default(),
            more: Notify::new(),
            driver: tokio::sync::Mutex::new(Driver::new(leases)),
            settling: RwLock::new(()),
        }
    }

    pub(crate) fn holding(&self) -> MutexGuard<'_, Holding> {
        self.holding.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes `receive`: the consumer has settled messages.
    pub(crate) fn settled(&self) {
        self.more.notify_one();
    }

    pub(crate) fn failed(&self, why: &str) -> StoreError {
        StoreError::transient(format!("the stream `{}`: {why}", self.topic.name))
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

    /// The server waits for the ack wait. The consumer keeps its messages, and holds any delay.
    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        limits.keep = Some(self.settings.ack_wait);
        limits
    }

    fn want(&self, room: usize) {
        if self.holding().want(room) {
            self.more.notify_one();
        }
    }

    async fn receive(&self) -> Result<Batch<Token>, StoreError> {
        let mut driver = self.driver.lock().await;
        let mut wait = LOOK;
        loop {
            let ended = match driver.tend(self).await {
                Ok(()) => {
                    if let Some(batch) = driver.hand_out(self) {
                        return Ok(batch);
                    }
                    driver.wait(self).await
                }
                failed => failed,
            };
            match ended {
                Ok(()) => wait = LOOK,
                // The error is reported to the consumer once, which logs it. It would come back only after the
                // consumer's wait.
                Err(error) if error.is_transient() && driver.in_trouble => {
                    self.settings.clock.sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(1));
                }
                Err(error) => {
                    driver.in_trouble = true;
                    return Err(error);
                }
            }
        }
    }

    async fn settle(&self, done: &[(Token, Settle)]) -> Result<Vec<Answer>, StoreError> {
        // A returned message stays unacknowledged on the server. The next owner of the shard begins with it, in order.
        // The server would deliver it again immediately, before messages that are still being handled.
        let life = self.holding().life();
        // A message of a stream that is gone: another message may have its sequence by now.
        let is_gone = |token: &Token| token.life != life;
        let handled = done.iter().filter(|(token, how)| *how == Settle::Done && !is_gone(token));
        let tokens: Vec<&Token> = handled.map(|(token, _)| token).collect();
        self.acknowledge(&tokens, Kind::Ack).await?;
        let mut holding = self.holding();
        tokens.iter().for_each(|token| holding.settled(token.shard, token.epoch, token.sequence));
        drop(holding);
        self.settled();
        // Late acknowledgements count: the message is handled.
        let answer = |token| if is_gone(token) { Answer::Late } else { Answer::Taken };
        Ok(done.iter().map(|(token, _)| answer(token)).collect())
    }

    async fn keep(&self, held: &[Token]) -> Result<Vec<Answer>, StoreError> {
        let answer = |token: &Token| {
            let holding = self.holding();
            let current =
                token.life == holding.life() && holding.is_current(token.shard, token.epoch);
            if current { Answer::Taken } else { Answer::Late }
        };
        let answers: Vec<Answer> = held.iter().map(answer).collect();
        let kept = held.iter().zip(&answers).filter(|(_, answer)| **answer == Answer::Taken);
        let kept: Vec<&Token> = kept.map(|(token, _)| token).collect();
        self.acknowledge(&kept, Kind::Progress).await?;
        Ok(answers)
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.driver.lock().await.close().await
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
