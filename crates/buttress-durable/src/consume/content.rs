//! [`Content`]: key, topic, headers and payload of a message.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

use crate::event::{KIND, SUBJECT};
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
    /// Sets the key and the topic that the transport has read. Set the headers first.
    ///
    /// A message of another publisher may have no key and no topic. Its key is then the subject of its event (the header
    /// `ce-subject`), or else empty. Its topic is the type of its event (`ce-type`), or else `otherwise`.
    ///
    /// ```
    /// use buttress_durable::consume::Content;
    ///
    /// let mut content = Content::default();
    /// content.headers = vec![("ce-type".into(), "order.paid".into())];
    /// content.set_key_and_topic(Some("order-7".into()), None, "orders.3");
    /// assert_eq!((&*content.key, &*content.topic), ("order-7", "order.paid"));
    /// ```
    pub fn set_key_and_topic(
        &mut self,
        key: Option<String>,
        topic: Option<String>,
        otherwise: &str,
    ) {
        let of_the_event = |wanted: &str| {
            let known = self.headers.iter().find(|(name, _)| name == wanted);
            known.map(|(_, value)| value.clone())
        };
        let key = key.or_else(|| of_the_event(SUBJECT));
        let topic = topic.or_else(|| of_the_event(KIND));
        self.key = key.unwrap_or_default();
        self.topic = topic.unwrap_or_else(|| otherwise.to_owned());
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_a_topic_that_the_transport_has_come_before_those_of_the_event() {
        let read = |headers: &[(&str, &str)], key: Option<&str>, topic: Option<&str>| {
            let owned = |(name, value): &(&str, &str)| (name.to_string(), value.to_string());
            let headers = headers.iter().map(owned).collect();
            let mut content = Content { headers, ..Content::default() };
            content.set_key_and_topic(key.map(Into::into), topic.map(Into::into), "orders.3");
            (content.key, content.topic)
        };
        let pair = |key: &str, topic: &str| (key.to_owned(), topic.to_owned());
        let event = [("x", "1"), ("ce-subject", "order-7"), ("ce-type", "order.paid")];
        assert_eq!(read(&event, Some("key"), Some("topic")), pair("key", "topic"));
        assert_eq!(read(&event, Some(""), Some("")), pair("", ""));
        assert_eq!(read(&event, None, None), pair("order-7", "order.paid"));
        assert_eq!(read(&event[..1], None, None), pair("", "orders.3"));
    }
}
