//! The errors of a declaration and of a publisher.

use std::error::Error as StdError;
use std::time::Duration;

use buttress::InvalidConfig;

pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// The reason why a publisher or a subscription could not be made.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting has a value that cannot work.
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    /// No broker answered a request.
    #[error("brokers: cannot {doing}: no broker of {brokers} answered")]
    Unavailable {
        /// The request, e.g. "find the topic `orders`".
        doing: String,
        /// The addresses of the brokers.
        brokers: String,
        /// The error of the client.
        source: Cause,
    },
    /// The cluster has no topic of this name, and may not create it.
    #[error("topic: the cluster has no topic `{topic}`; create it, or allow that it is created")]
    Missing {
        /// The name of the topic.
        topic: String,
    },
    /// The topic has another number of partitions.
    #[error("partitions: {wanted} is configured, but the topic `{topic}` has {found}")]
    Mismatch {
        /// The configured number.
        wanted: i32,
        /// The number of the topic.
        found: i32,
        /// The name of the topic.
        topic: String,
    },
    /// The cluster refused a request.
    #[error("cannot {doing}")]
    Refused {
        /// The request, e.g. "create the topic `orders`".
        doing: String,
        /// The error of the client or the cluster.
        source: Cause,
    },
}

/// The reason why a message was not published, or may not have been.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The brokers did not confirm the message within the limit. It is unknown whether the topic has the message. Publish
    /// it again. The topic may then have it twice: record it in the inbox.
    #[error(
        "message {id}: no confirmation within {limit:?}; it is unknown whether the topic has it"
    )]
    Unconfirmed {
        /// The id of the message.
        id: String,
        /// The limit of the publisher.
        limit: Duration,
        /// The error of the client, unless the limit ended the wait.
        source: Option<Cause>,
    },
    /// The cluster has no topic of this name.
    #[error("topic: the cluster has no topic `{topic}`")]
    NoTopic {
        /// The name of the topic.
        topic: String,
        /// The error of the client or the cluster.
        source: Cause,
    },
    /// The queue of the publisher is full. The message was not sent.
    #[error(
        "message {id}: the queue of the publisher is full; publish less concurrently, or raise `queue.buffering.max.messages`"
    )]
    Full {
        /// The id of the message.
        id: String,
    },
    /// The message is larger than the client or the topic allows.
    #[error(
        "message {id}: {size} bytes with its headers are more than `message.max.bytes` of the client or the topic"
    )]
    TooLarge {
        /// The id of the message.
        id: String,
        /// The size of key, payload and headers in bytes.
        size: usize,
    },
    /// Kafka cannot carry a header unchanged.
    #[error("message {id}: header `{name}`: {why}")]
    Header {
        /// The id of the message.
        id: String,
        /// The name of the header.
        name: String,
        /// The rule that the header breaks.
        why: &'static str,
    },
    /// The brokers refused the message.
    #[error("message {id}: the brokers refused it")]
    Refused {
        /// The id of the message.
        id: String,
        /// The error of the brokers.
        source: Cause,
    },
}

impl PublishError {
    /// Returns `true` if no repetition of the message can succeed: Kafka cannot carry it.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Header { .. })
    }
}
