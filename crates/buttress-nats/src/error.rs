//! The errors of a connection, of a declaration and of a publisher.

use std::error::Error as StdError;
use std::time::Duration;

use buttress::InvalidConfig;

pub(crate) type Cause = Box<dyn StdError + Send + Sync>;

/// The reason why a connection, a publisher or a subscription could not be made.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting has a value that cannot work.
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    /// The connection could not be made with this setting.
    #[error("{setting}: cannot connect to {value}")]
    Connect {
        /// The setting to change: `address`, `credentials` or `tls`.
        setting: &'static str,
        /// The address.
        value: String,
        /// The error of the client.
        source: Cause,
    },
    /// The server has no stream of this name, and the topic may not create it.
    #[error(
        "topic: the server has no stream `{stream}`; create it, or allow the topic to create it"
    )]
    Missing {
        /// The name of the stream.
        stream: String,
    },
    /// A stream or a consumer on the server was declared with another value.
    #[error("{argument}: {wanted} is configured, but `{of}` on the server has {found}")]
    Mismatch {
        /// The argument, in kebab case, e.g. `shards`.
        argument: &'static str,
        /// The configured value.
        wanted: String,
        /// The value on the server.
        found: String,
        /// The name of the stream or the consumer.
        of: String,
    },
    /// The server did not carry out a request.
    #[error("cannot {doing}")]
    Server {
        /// The request, e.g. "create the stream `orders`".
        doing: String,
        /// The error of the client or the server.
        source: Cause,
    },
}

impl SetupError {
    pub(crate) fn server(doing: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Server { doing: doing.into(), source: source.into() }
    }
}

/// The reason why a message was not published, or may not have been.
#[non_exhaustive]
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// There was no connection within the limit. The message was not sent.
    #[error("address: no connection to the server within {limit:?}")]
    Disconnected {
        /// The limit of the publisher.
        limit: Duration,
    },
    /// The server did not confirm the message within the limit, or the connection was cut before. It is unknown whether
    /// the stream has the message. Publish it again with the same id: the server recognises it within the
    /// [duplicate window](crate::Topic::duplicate_window).
    #[error(
        "message {id}: no confirmation within {limit:?}; it is unknown whether the stream has it"
    )]
    Unconfirmed {
        /// The id of the message.
        id: String,
        /// The limit of the publisher.
        limit: Duration,
    },
    /// No stream takes the subject: the stream of the topic is missing, or it has fewer shards.
    #[error("topic: no stream of the server takes the subject `{subject}`")]
    NoStream {
        /// The subject.
        subject: String,
    },
    /// The stream is full, or the account is.
    #[error("max-bytes: the stream `{stream}` does not take the message {id}")]
    Full {
        /// The id of the message.
        id: String,
        /// The name of the stream.
        stream: String,
        /// The error of the server.
        source: Cause,
    },
    /// The message is larger than the server allows.
    #[error(
        "message {id}: {size} bytes with its headers, at most {limit} are allowed by the server's max_payload"
    )]
    TooLarge {
        /// The id of the message.
        id: String,
        /// The size of payload and headers in bytes.
        size: usize,
        /// The largest size that the server takes.
        limit: usize,
    },
    /// NATS cannot carry a header unchanged.
    #[error("message {id}: header `{name}`: {why}")]
    Header {
        /// The id of the message.
        id: String,
        /// The name of the header.
        name: String,
        /// The rule that the header breaks.
        why: &'static str,
    },
    /// The server refused the message.
    #[error("message {id}: the server refused it")]
    Refused {
        /// The id of the message.
        id: String,
        /// The error of the server.
        source: Cause,
    },
}

impl PublishError {
    /// Returns `true` if no repetition of the message can succeed: NATS cannot carry it.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::Header { .. })
    }
}
