//! [`Content`]: key, topic, headers and payload of a message.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use crate::outbox::Message;

/// The content of a message. Transport, consumer, attempts and dead letters share one copy.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Content {
    /// The key. Messages of one key are handled in the order of their delivery. An empty key has no order.
    pub key: String,
    /// The destination that the publisher named: a topic, a subject, a routing key.
    pub topic: String,
    /// The bytes of the message.
    pub payload: Vec<u8>,
    /// Names and values, translated by a [`Binding`](crate::event::Binding).
    pub headers: Vec<(String, String)>,
}

impl Content {
    /// Returns `true` if both are the content of one message. Headers are left out, because a transport may count
    /// deliveries there.
    pub(crate) fn is_of(&self, other: &Self) -> bool {
        self.key == other.key && self.topic == other.topic && self.payload == other.payload
    }

    /// Returns the size of payload and headers.
    pub(crate) fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.payload.len() + headers.sum::<usize>()
    }
}

impl From<Message> for Content {
    fn from(message: Message) -> Self {
        let Message { key, topic, payload, headers, .. } = message;
        Self { key, topic, payload, headers }
    }
}

/// The key of a message, as a key of maps. Shares the message.
#[derive(Clone)]
pub(crate) struct Key(Arc<Content>);

impl Key {
    pub(crate) fn of(content: &Arc<Content>) -> Self {
        Self(content.clone())
    }
}

impl Deref for Key {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.key
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Key {}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}
