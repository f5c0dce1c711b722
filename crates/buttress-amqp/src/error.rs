//! The errors of a connection, of a declaration and of a publisher.

use std::time::Duration;

use buttress::{InvalidConfig, StoreError};
use lapin::ErrorKind;

/// The server refuses the user.
pub(crate) const ACCESS_REFUSED: u16 = 403;
/// There is no queue or exchange of this name.
pub(crate) const NOT_FOUND: u16 = 404;
/// A declaration differs from the existing one, a message is too large, or a delivery was not acknowledged in time.
pub(crate) const PRECONDITION_FAILED: u16 = 406;
/// There is no virtual host of this name, or the user may not use it.
const NOT_ALLOWED: u16 = 530;

/// Returns the reply code of the server, if the error is one.
pub(crate) fn code(error: &lapin::Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(error) => Some(error.get_id()),
        _ => None,
    }
}

/// The reason why a connection, a publisher or a subscription could not be made.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum SetupError {
    /// A setting has a value that cannot work.
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    /// The text is not an address of RabbitMQ.
    #[error("address: {why}; an address has the form amqp://user:password@host:5672/vhost")]
    Address {
        /// The rule that the text breaks.
        why: String,
    },
    /// The connection could not be made with this setting.
    #[error("{setting}: cannot connect to {server}")]
    Connect {
        /// The setting to change: `address`, `credentials` or `vhost`.
        setting: &'static str,
        /// Host and port.
        server: String,
        /// The error of the client.
        #[source]
        source: lapin::Error,
    },
    /// The server did not answer within the limit.
    #[error("address: no answer of {server} within {limit:?}, {doing}")]
    Unanswered {
        /// Host and port.
        server: String,
        /// The limit.
        limit: Duration,
        /// The operation, e.g. "connecting".
        doing: &'static str,
    },
    /// The server has no exchange or queue of this name, and the topic may not create it.
    #[error("topic: the server has no `{name}`; declare it, or allow the topic to create it")]
    Missing {
        /// The name of the exchange or the queue.
        name: String,
    },
    /// An exchange or a queue on the server was declared with another value.
    #[error("{argument}: {wanted} is configured, but `{of}` on the server has {found}")]
    Mismatch {
        /// The setting, in kebab case, e.g. `shards`, or the argument as RabbitMQ names it, e.g. `x-queue-type`.
        argument: String,
        /// The configured value.
        wanted: String,
        /// The value on the server.
        found: String,
        /// The name of the exchange or the queue.
        of: String,
    },
    /// A queue did not take a message back.
    #[error(
        "the queue `{queue}` does not take a message; it is missing, or its replicas are unavailable"
    )]
    Untaken {
        /// The name of the queue.
        queue: String,
    },
    /// The server did not carry out a request.
    #[error("cannot {doing}")]
    Server {
        /// The request, e.g. "declare the queue `orders.billing.0`".
        doing: String,
        /// The error of the client or the server.
        #[source]
        source: lapin::Error,
    },
}

impl SetupError {
    pub(crate) fn connect(server: String, source: lapin::Error) -> Self {
        let setting = match code(&source) {
            Some(ACCESS_REFUSED) => "credentials",
            Some(NOT_ALLOWED) => "vhost",
            _ => "address",
        };
        Self::Connect { setting, server, source }
    }

    /// Returns `true` if only a person can fix it.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Invalid(_) | Self::Address { .. } | Self::Missing { .. } => true,
            Self::Mismatch { .. } => true,
            Self::Connect { source, .. } | Self::Server { source, .. } => {
                matches!(code(source), Some(ACCESS_REFUSED | NOT_ALLOWED))
            }
            Self::Unanswered { .. } | Self::Untaken { .. } => false,
        }
    }

    /// Returns the error of a source that cannot receive.
    pub(crate) fn into_store_error(self) -> StoreError {
        let message = self.to_string();
        let error = if self.is_lasting() {
            StoreError::misconfigured(message)
        } else {
            StoreError::transient(message)
        };
        error.with_source(self)
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
    /// RabbitMQ takes no messages now: it is short of memory or of disk space. The message was not sent.
    #[error("the server blocks publishers: it is short of memory or of disk space")]
    Blocked,
    /// The server did not confirm the message within the limit, or the connection was cut before. It is unknown
    /// whether the queues have the message. Publish it again with the same id: consumers recognise it by their inbox.
    #[error(
        "message {id}: no confirmation within {limit:?}; it is unknown whether the queues have it"
    )]
    Unconfirmed {
        /// The id of the message.
        id: String,
        /// The limit of the publisher.
        limit: Duration,
    },
    /// No queue takes the message: the topic has no group, or it has fewer shards.
    #[error("topic: no queue is bound to the exchange `{exchange}` for the shard {shard}")]
    Unrouted {
        /// The name of the exchange.
        exchange: String,
        /// The shard of the message.
        shard: u16,
    },
    /// The server has no exchange of the topic.
    #[error("topic: the server has no exchange `{exchange}`")]
    NoExchange {
        /// The name of the exchange.
        exchange: String,
        /// The error of the server.
        #[source]
        source: lapin::Error,
    },
    /// The user may not write to the exchange of the topic.
    #[error("credentials: the user may not write to the exchange `{exchange}`")]
    Denied {
        /// The name of the exchange.
        exchange: String,
        /// The error of the server.
        #[source]
        source: lapin::Error,
    },
    /// After a lost connection the topic cannot be declared again.
    #[error("the topic cannot be declared again")]
    Setup {
        /// The reason.
        #[source]
        source: SetupError,
    },
    /// A queue of some group does not take the message: it is full, or too few of its replicas are available. Other
    /// groups may have the message.
    #[error("max-bytes: a queue of the topic does not take the message {id}")]
    Full {
        /// The id of the message.
        id: String,
    },
    /// The payload is larger than the publisher or the server allows.
    #[error("message {id}: {size} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The id of the message.
        id: String,
        /// The size of the payload in bytes.
        size: usize,
        /// The largest size.
        limit: usize,
    },
    /// The headers are larger than a frame of AMQP.
    #[error("message {id}: headers of {size} bytes, at most {limit} fit into a frame")]
    HeadersTooLarge {
        /// The id of the message.
        id: String,
        /// The size of the headers in bytes.
        size: usize,
        /// The largest size.
        limit: usize,
    },
    /// AMQP cannot carry a header unchanged.
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
        #[source]
        source: lapin::Error,
    },
}

impl PublishError {
    /// Returns `true` if no repetition of the message can succeed: RabbitMQ cannot carry it.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self, Self::TooLarge { .. } | Self::HeadersTooLarge { .. } | Self::Header { .. })
    }
}
