//! [`EventId`]: the id of an event, ours or another system's.

use std::fmt;
use std::str::FromStr;

use crate::outbox::MessageId;

/// The id of an event.
///
/// An id that this library writes is a [`MessageId`]. An id of another system is an opaque text, which stays the
/// same byte for byte. Such a text is unique only together with the event's
/// [`source`](super::Event::source).
///
/// ```
/// use buttress_durable::event::EventId;
/// use buttress_durable::outbox::MessageId;
///
/// let ours = EventId::from(MessageId::new(7));
/// assert_eq!(EventId::from(ours.to_string()).message(), Some(MessageId::new(7)));
/// assert_eq!(EventId::from("invoice/2024-11").message(), None);
/// ```
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct EventId(Repr);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Repr {
    Ours(MessageId),
    Opaque(Box<str>),
}

impl EventId {
    /// Returns the id of the outbox message. Returns `None` for a text that this library would not write: anything
    /// but 32 lowercase hexadecimal digits with hyphens, as in a UUID.
    #[must_use]
    pub fn message(&self) -> Option<MessageId> {
        match self.0 {
            Repr::Ours(id) => Some(id),
            Repr::Opaque(_) => None,
        }
    }
}

impl From<MessageId> for EventId {
    fn from(id: MessageId) -> Self {
        Self(Repr::Ours(id))
    }
}

impl From<&str> for EventId {
    fn from(text: &str) -> Self {
        // A text in capitals or without hyphens would not come back as the same text.
        match MessageId::from_str(text) {
            Ok(id) if id.to_string() == text => Self(Repr::Ours(id)),
            _ => Self(Repr::Opaque(text.into())),
        }
    }
}

impl From<String> for EventId {
    fn from(text: String) -> Self {
        Self::from(text.as_str())
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Repr::Ours(id) => fmt::Display::fmt(id, f),
            Repr::Opaque(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventId({self})")
    }
}
