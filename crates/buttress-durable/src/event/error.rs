//! The errors of encoding and decoding an event.

use std::fmt;

use buttress::CodecError;

use crate::outbox::InvalidMessage;

/// The most characters of a received value that an error keeps.
const LONGEST: usize = 64;

/// The reason why received headers and bytes are not an event. A repeated delivery has the same error.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum DecodeError {
    /// A required attribute is missing or empty.
    #[error(
        "event without the attribute `{field}`: CloudEvents 1.0 requires it; \
         write a message of an outbox with `Event::encode` or `Event::into_message`"
    )]
    Missing {
        /// The name of the attribute: `id`, `source`, `specversion` or `type`.
        field: &'static str,
    },
    /// An attribute has a value that is not allowed.
    #[error("event attribute `{field}` is `{value}`: expected {expected}")]
    Invalid {
        /// The name of the attribute.
        field: String,
        /// The first 64 characters of the value. Control characters are escaped.
        value: String,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// An attribute occurs twice, so its value is ambiguous.
    #[error("event attribute `{field}` occurs twice: one value is allowed")]
    Repeated {
        /// The name of the attribute.
        field: String,
    },
    /// The payload is not data of this kind in the format of the codec.
    #[error("event of kind `{kind}`, version {version}: cannot decode the data")]
    Data {
        /// The kind of the event.
        kind: String,
        /// The version of its data.
        version: u32,
        /// The error of the codec.
        #[source]
        source: CodecError,
    },
}

impl DecodeError {
    pub(super) fn invalid(field: &str, value: &str, expected: &'static str) -> Self {
        let value = value.chars().take(LONGEST).collect::<String>().escape_debug().to_string();
        Self::Invalid { field: field.to_owned(), value, expected }
    }
}

/// The reason why an event cannot become a message.
#[non_exhaustive]
#[derive(Clone, Debug, thiserror::Error)]
pub enum EncodeError {
    /// A required attribute is empty.
    #[error("event with an empty `{field}`: CloudEvents 1.0 requires a value")]
    Empty {
        /// The name of the attribute: `source` or `type`.
        field: &'static str,
    },
    /// [`DomainEvent::KINDS`](super::DomainEvent::KINDS) does not name the kind, so no consumer would decode it.
    #[error("event of kind `{kind}`, version {version}: name it in `DomainEvent::KINDS`")]
    Unlisted {
        /// The kind of the event.
        kind: String,
        /// The version of its data.
        version: u32,
    },
    /// A header has the name of an attribute, or a name that a transport reads as one. A reader would get a different
    /// event.
    #[error("event with the header `{name}`: the envelope uses this name; rename the header")]
    Taken {
        /// The name of the header.
        name: String,
    },
    /// The id is another system's text. A message of the outbox needs a [`MessageId`](crate::outbox::MessageId).
    #[error("event id `{id}` is not a message id: give the event a new id")]
    OpaqueId {
        /// The id.
        id: String,
    },
    /// The time is before the year 0 or after the year 9999, which RFC 3339 cannot write.
    #[error("event time {time:?}: between the years 0 and 9999 is allowed")]
    Time {
        /// The time.
        time: std::time::SystemTime,
    },
    /// The codec cannot express the data.
    #[error("event of kind `{kind}`: cannot encode the data")]
    Data {
        /// The kind of the event.
        kind: String,
        /// The error of the codec.
        #[source]
        source: CodecError,
    },
    /// Subject, kind, payload or headers are too long, or the subject is empty.
    #[error("event is not a valid message")]
    Message(#[from] InvalidMessage),
}

/// An event whose kind, or whose version of it, this program does not know.
///
/// It is not a fault of the event: a newer version of a service writes such events while an older one still runs. The
/// configuration of a consumer decides about the delivery.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownEvent {
    /// The kind of the event.
    pub kind: String,
    /// The version of its data.
    pub version: u32,
}

impl fmt::Display for UnknownEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, version) = (self.kind.escape_debug(), self.version);
        write!(f, "event of kind `{kind}`, version {version}: this program does not know it")
    }
}

impl std::error::Error for UnknownEvent {}
