//! [`Error`]: the failure of an operation on Redis.

use std::time::Duration;

use buttress::{StoreError, StoreErrorKind};
use redis::{ErrorKind, RedisError, ServerErrorKind};

/// The reason why an operation on Redis failed. Each variant names the setting or the part that an operator can fix.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The address is not a URL of Redis.
    #[error("address of Redis: expected a URL such as `redis://user:password@host:6379/0`")]
    Address {
        /// The error of the client.
        #[source]
        source: RedisError,
    },
    /// Redis does not answer at this address. It is unknown whether the operation took effect.
    #[error("{doing}: no connection to Redis at {address}")]
    Unavailable {
        /// The operation.
        doing: &'static str,
        /// Host and port.
        address: String,
        /// The error of the client.
        #[source]
        source: RedisError,
    },
    /// Redis did not answer within the limit. It is unknown whether the operation took effect.
    #[error("{doing}: no answer from Redis at {address} within {limit:?}")]
    TooSlow {
        /// The operation.
        doing: &'static str,
        /// Host and port.
        address: String,
        /// The limit.
        limit: Duration,
    },
    /// Redis refuses the user or the password.
    #[error("{doing}: Redis at {address} refuses the credentials: check user and password")]
    Credentials {
        /// The operation.
        doing: &'static str,
        /// Host and port.
        address: String,
        /// The error of the client.
        #[source]
        source: RedisError,
    },
    /// The user has no right to a command or a key.
    #[error("{doing}: the user has no right to a command or a key: extend the ACL of the user")]
    Denied {
        /// The operation.
        doing: &'static str,
        /// The error of the client.
        #[source]
        source: RedisError,
    },
    /// The stream does not exist. It was removed, or Redis has lost its data.
    #[error("stream `{stream}` does not exist: declare the topic again")]
    MissingStream {
        /// The key of the stream.
        stream: String,
    },
    /// The group, or its stream, does not exist. It was removed, or Redis has lost its data.
    #[error("group `{group}` of topic `{topic}` does not exist: open the source again")]
    MissingGroup {
        /// The name of the topic.
        topic: String,
        /// The name of the group.
        group: String,
    },
    /// The topic was declared with another number of shards.
    #[error("topic `{topic}`: `shards` is {wanted}, and the topic was declared with {found}")]
    Shards {
        /// The name of the topic.
        topic: String,
        /// The number in this program.
        wanted: u16,
        /// The number in Redis.
        found: String,
    },
    /// A name has a character that is not allowed, or a wrong length.
    #[error("`{field}` is `{value}`: expected {expected}")]
    Name {
        /// The name of the setting.
        field: &'static str,
        /// The value.
        value: String,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// A header cannot be a field of an entry, because a consumer would read another header.
    #[error(
        "header `{name}`: the name of an attribute has lower-case letters and digits only, and is not `data`"
    )]
    Header {
        /// The name of the header.
        name: String,
    },
    /// Redis has reached its limit of memory, and its policy is to refuse writes.
    #[error("{doing}: Redis has no memory left: raise `maxmemory`, or let consumers catch up")]
    Full {
        /// The operation.
        doing: &'static str,
        /// The error of the client.
        #[source]
        source: RedisError,
    },
    /// Redis cannot serve the operation now: it loads its data, is a replica, or moves a slot.
    #[error("{doing}: Redis at {address} cannot serve the operation now")]
    Refused {
        /// The operation.
        doing: &'static str,
        /// Host and port.
        address: String,
        /// The error of the client.
        #[source]
        source: RedisError,
    },
    /// Redis rejects the command, e.g. because a key has another type.
    #[error("{doing}: Redis rejects the command")]
    Rejected {
        /// The operation.
        doing: &'static str,
        /// The error of the client.
        #[source]
        source: RedisError,
    },
    /// The answer of Redis does not have the expected form.
    #[error("{doing}: the answer of Redis is not {expected}")]
    Answer {
        /// The operation.
        doing: &'static str,
        /// The expected form.
        expected: &'static str,
    },
}

impl Error {
    /// Finds the variant for an error of the client.
    pub(crate) fn of(doing: &'static str, address: &str, source: RedisError) -> Self {
        let address = address.to_owned();
        let code = source.code().unwrap_or_default();
        match source.kind() {
            ErrorKind::AuthenticationFailed => Self::Credentials { doing, address, source },
            _ if matches!(code, "WRONGPASS" | "NOAUTH") => {
                Self::Credentials { doing, address, source }
            }
            ErrorKind::Server(ServerErrorKind::NoPerm) => Self::Denied { doing, source },
            _ if code == "OOM" => Self::Full { doing, source },
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ReadOnly
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::TryAgain
                | ServerErrorKind::Moved
                | ServerErrorKind::Ask,
            ) => Self::Refused { doing, address, source },
            _ if matches!(code, "BUSY" | "MISCONF" | "NOREPLICAS") => {
                Self::Refused { doing, address, source }
            }
            ErrorKind::Io | ErrorKind::Parse | ErrorKind::Client => {
                Self::Unavailable { doing, address, source }
            }
            _ => Self::Rejected { doing, source },
        }
    }

    /// Returns `true` if Redis answered with this code, e.g. `BUSYGROUP`.
    pub(crate) fn has_code(&self, wanted: &str) -> bool {
        let source = match self {
            Self::Rejected { source, .. } | Self::Refused { source, .. } => source,
            _ => return false,
        };
        source.code() == Some(wanted)
    }

    /// Returns the kind of the error, by the action of a caller.
    #[must_use]
    pub const fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Unavailable { .. }
            | Self::TooSlow { .. }
            | Self::Refused { .. }
            | Self::Full { .. } => StoreErrorKind::Transient,
            Self::Address { .. }
            | Self::Credentials { .. }
            | Self::Denied { .. }
            | Self::MissingStream { .. }
            | Self::MissingGroup { .. }
            | Self::Shards { .. }
            | Self::Rejected { .. } => StoreErrorKind::Misconfigured,
            Self::Name { .. } | Self::Header { .. } => StoreErrorKind::Invalid,
            Self::Answer { .. } => StoreErrorKind::Corrupt,
        }
    }
}

impl From<Error> for StoreError {
    fn from(error: Error) -> Self {
        Self::new(error.kind(), error.to_string()).with_source(error)
    }
}
