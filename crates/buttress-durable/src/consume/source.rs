//! [`Source`]: the trait that a transport implements so that a consumer can run over it.
//!
//! The trait has to fit five transports:
//!
//! | | in process | Redis streams | RabbitMQ | NATS JetStream | Kafka |
//! |---|---|---|---|---|---|
//! | shard | the subscription | a stream | a queue with a single active consumer | a subject | a partition |
//! | token | number | lease, id | life of the channel, tag | lease, sequence, reply subject | partition, assignment, offset |
//! | place | number | entry id | the event id in `message_id` | stream sequence | offset |
//! | `Done` | removes it | `XACK` by a script that checks the lease | `ack` | `ack`, with one confirmation per shard and call | marks the offset; the commit follows below the lowest unfinished one |
//! | `Back` | to its place in the queue | stays pending, for the next owner | `nack` with requeue | stays unacknowledged, for the next owner | nothing; the next owner starts at the commit |
//! | counts deliveries | the transport | the transport: `XPENDING`, asked when a pending entry is claimed | quorum queues: `x-delivery-count` | the transport | not counted |
//! | holds a delay | the consumer | the consumer | the consumer up to 60 s, then a dead letter with a due time | the consumer, with `keep` | the consumer, within the window |
//! | `keep` | never needed | renews the leases while nothing is received | never needed below `consumer_timeout` | "in progress" at half of the ack wait | never needed: it polls while paused |
//! | revocation | never | the lease of a stream ended | the channel closed | the lease of a subject ended | a rebalance |
//! | lost after revocation | nothing | acks of the old lease answer `Late` | tags of the old channel answer `Late` | nothing: late acks count | offsets of the old assignment answer `Late` |
//! | `Taken` proves | it is removed | it is removed | not redelivered unless something crashes | it is removed | not redelivered unless something crashes |

use std::future::Future;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use buttress::StoreError;

use super::content::Content;

/// The capabilities of a transport. The consumer does the rest.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limits {
    /// How long the transport waits for a message that is neither settled nor kept, before it delivers the message
    /// again. The consumer calls [`Source::keep`] twice in this time. Default: `None`, the transport waits forever.
    pub keep: Option<Duration>,
    /// The longest time that a message may rest in the consumer between two attempts. A longer wait becomes a dead
    /// letter with a due time. Default: `None`, there is no limit.
    pub hold: Option<Duration>,
}

/// A part of the transport that one consumer of a group owns at a time: a partition, a stream, a queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Shard(
    /// The number of the shard, which the source chooses.
    pub u64,
);

/// The position of a message in its shard, equal in all of its deliveries: an offset, a sequence, an id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Place {
    /// A number.
    Number(u64),
    /// Two numbers, the first of which counts more, e.g. a time and a sequence.
    Pair(u64, u64),
    /// A text.
    Text(Box<str>),
}

/// Where a new group begins, on transports that keep messages. A group that exists continues where it was.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Start {
    /// The group begins at the first message that the transport still has. The default: nothing is left out.
    #[default]
    First,
    /// The group begins after the last message: it receives the messages that are published from now on.
    New,
    /// The group begins at the first message of this time or later. The guide of a transport says whose clock decides.
    At(SystemTime),
}

/// A message that a transport delivers, with the token that settles it. It dereferences to its [`Content`].
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received<T> {
    /// Settles this delivery. It carries the epoch of the connection, the lease or the assignment.
    pub token: T,
    /// The shard of the message.
    pub shard: Shard,
    /// The position of the message, if the transport has one that all deliveries of the message share.
    ///
    /// A message that is delivered again while the consumer holds it replaces the token; no second handler starts.
    pub place: Option<Place>,
    /// How many times the transport delivered the message before, if it counts deliveries. Protects against a message
    /// that ends the process, whose attempts the consumer cannot remember.
    pub redeliveries: Option<u32>,
    pub(super) content: Arc<Content>,
}

impl<T> Received<T> {
    /// Creates a delivery without a place, a topic, headers and a count.
    pub fn new(
        token: T,
        shard: Shard,
        key: impl Into<String>,
        payload: impl Into<Vec<u8>>,
    ) -> Self {
        let (key, payload) = (key.into(), payload.into());
        Self::of(token, shard, Arc::new(Content { key, payload, ..Content::default() }))
    }

    /// Creates a delivery of a content that the transport keeps too, without a place and a count.
    pub const fn of(token: T, shard: Shard, content: Arc<Content>) -> Self {
        Self { token, shard, place: None, redeliveries: None, content }
    }

    /// Returns the content.
    #[must_use]
    pub const fn content(&self) -> &Arc<Content> {
        &self.content
    }

    /// Returns the same delivery with another token.
    pub fn with_token<U>(self, token: U) -> Received<U> {
        let Self { shard, place, redeliveries, content, .. } = self;
        Received { token, shard, place, redeliveries, content }
    }
}

/// Key, topic, payload and headers.
impl<T> Deref for Received<T> {
    type Target = Content;

    fn deref(&self) -> &Content {
        &self.content
    }
}

/// Copies the content if it is shared.
impl<T> DerefMut for Received<T> {
    fn deref_mut(&mut self) -> &mut Content {
        Arc::make_mut(&mut self.content)
    }
}

/// The answer of [`Source::receive`].
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch<T> {
    /// The messages, in the order of their shards. They are at most the room that [`Source::want`] named last.
    pub messages: Vec<Received<T>>,
    /// Shards that this consumer does not own any more. Counts before `messages`.
    pub revoked: Vec<Shard>,
    /// How many messages the transport has lost: it names them and has no content. The consumer counts and logs
    /// them.
    pub lost: u64,
}

impl<T> Default for Batch<T> {
    fn default() -> Self {
        Self { messages: Vec::new(), revoked: Vec::new(), lost: 0 }
    }
}

impl<T> Batch<T> {
    /// Creates a batch of `messages`.
    #[must_use]
    pub const fn new(messages: Vec<Received<T>>) -> Self {
        Self { messages, revoked: Vec::new(), lost: 0 }
    }
}

/// How a delivery ends.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Settle {
    /// The message is handled, or it is in the dead letters. The transport need not deliver it again.
    Done,
    /// The consumer returns the message unhandled. The transport delivers it again, to any consumer of the group.
    Back,
}

/// The answer to a settled or kept delivery.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Answer {
    /// The transport took it. On Kafka and RabbitMQ a crash can still deliver the message again.
    Taken,
    /// The token is of an earlier connection, lease or assignment. The message is delivered again, perhaps to another
    /// consumer. The consumer counts it.
    Late,
}

/// A subscription of one consumer group to a transport.
///
/// The consumer keeps one [`receive`](Self::receive) pinned until it answers, and meanwhile calls
/// [`settle`](Self::settle) and [`keep`](Self::keep), each one call at a time. So all methods take `&self`, and a
/// source reconnects inside `receive`. Every future is lazy.
///
/// A message that was delivered and not settled is delivered again, to this consumer or another one, after a
/// crash, a lost connection or a revocation. A source must not deliver a message again under the same epoch while
/// the consumer holds it.
pub trait Source: Send + Sync + 'static {
    /// Settles one delivery.
    type Token: Clone + Send + Sync + 'static;

    /// Returns the name of the stream, queue or topic. Dead letters and log lines carry it.
    fn name(&self) -> &str;

    /// Returns the name of the consumer group. Each message is handled by one consumer of a group.
    fn group(&self) -> &str;

    /// Returns the capabilities of the transport. The consumer asks once, before the first `receive`.
    fn limits(&self) -> Limits;

    /// Announces the most messages that the consumer holds: its concurrency and its prefetch. The consumer calls it once,
    /// before the first [`want`](Self::want).
    ///
    /// A source whose transport fixes a window of unsettled messages before the first delivery needs no larger one. The
    /// default implementation does nothing.
    fn announce_capacity(&self, messages: usize) {
        let _ = messages;
    }

    /// Announces how many further messages the consumer has room for. The consumer calls it at every change, also
    /// while `receive` waits. `receive` answers with at most this many messages; with a room of 0 it waits.
    ///
    /// A source with several shards shares the room among them, so that one shard cannot take all of it. A source
    /// whose transport allows only some unsettled messages per shard stops at that number by itself.
    fn want(&self, room: usize);

    /// Waits for messages, a revocation or a loss.
    ///
    /// # Errors
    /// After an error the consumer waits, longer each time, and calls again.
    fn receive(&self) -> impl Future<Output = Result<Batch<Self::Token>, StoreError>> + Send;

    /// Settles deliveries, and returns an answer for each, in their order.
    ///
    /// # Errors
    /// It is unknown which deliveries were settled. The consumer repeats the call, so a repeated settle has no
    /// further effect.
    fn settle(
        &self,
        done: &[(Self::Token, Settle)],
    ) -> impl Future<Output = Result<Vec<Answer>, StoreError>> + Send;

    /// Reports to the transport that these deliveries are still being handled, and returns an answer for each. The
    /// consumer calls it only if [`Limits::keep`] is set.
    ///
    /// The default implementation answers [`Answer::Taken`].
    ///
    /// # Errors
    /// The consumer repeats the call.
    fn keep(
        &self,
        held: &[Self::Token],
    ) -> impl Future<Output = Result<Vec<Answer>, StoreError>> + Send {
        let answers = vec![Answer::Taken; held.len()];
        async { Ok(answers) }
    }

    /// Leaves the group, after every delivery is settled.
    ///
    /// # Errors
    /// The consumer logs the error and ends.
    fn close(&self) -> impl Future<Output = Result<(), StoreError>> + Send;
}
