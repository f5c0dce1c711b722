//! New messages, and messages on their way to the publisher.

use std::time::Duration;

use buttress::__ids as ids;

ids! {
    /// The id of a message. A consumer recognises a repeated delivery by this id.
    MessageId;
}

/// The reason why no store can hold a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// The key is empty or too long.
    #[error(
        "message {id}: key of {length} bytes, between 1 and {} are allowed",
        NewMessage::LONGEST_KEY
    )]
    Key {
        /// The id of the message.
        id: MessageId,
        /// The length of the key in bytes.
        length: usize,
    },
    /// The topic is too long.
    #[error(
        "message {id}: topic of {length} bytes, at most {} are allowed",
        NewMessage::LONGEST_KEY
    )]
    Topic {
        /// The id of the message.
        id: MessageId,
        /// The length of the topic in bytes.
        length: usize,
    },
    /// The payload or the headers are too large.
    #[error("message {id}: {what} of {length} bytes, at most {limit} are allowed")]
    TooLarge {
        /// The id of the message.
        id: MessageId,
        /// The part that is too large: `payload` or `headers`.
        what: &'static str,
        /// The length of this part in bytes.
        length: usize,
        /// The largest allowed length in bytes.
        limit: usize,
    },
}

/// A message that a caller writes to an outbox.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a message does nothing until it is written"]
pub struct NewMessage {
    /// The id, which the writer generates. A second write of the same id is an error of the store.
    pub id: MessageId,
    /// The key. Relays publish the messages of one key in order.
    pub key: String,
    /// The destination, for the publisher to interpret. May be empty.
    pub topic: String,
    /// The content of the message.
    pub payload: Vec<u8>,
    /// Names and values, for the publisher to interpret.
    pub headers: Vec<(String, String)>,
    /// How long after the write a relay may publish the message. Later messages of the key do not
    /// wait for it.
    pub delay: Duration,
}

impl NewMessage {
    /// The longest key or topic in bytes.
    pub const LONGEST_KEY: usize = 512;
    /// The largest payload in bytes: 1 MiB. A message names an event. Keep large contents in a
    /// separate store.
    pub const LARGEST_PAYLOAD: usize = 1 << 20;
    /// The most bytes of all header names and values together: 64 KiB.
    pub const LARGEST_HEADERS: usize = 1 << 16;

    /// Creates a message that a relay publishes as soon as its transaction commits.
    pub fn new(id: MessageId, key: impl Into<String>, payload: impl Into<Vec<u8>>) -> Self {
        Self {
            id,
            key: key.into(),
            topic: String::new(),
            payload: payload.into(),
            headers: Vec::new(),
            delay: Duration::ZERO,
        }
    }

    /// Sets the destination. Default: empty.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how long after the write a relay may publish the message. Default: zero.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Checks that every store can hold the message.
    ///
    /// # Errors
    /// Returns the part that is too short or too long.
    pub fn check(&self) -> Result<(), InvalidMessage> {
        let id = self.id;
        if self.key.is_empty() || self.key.len() > Self::LONGEST_KEY {
            return Err(InvalidMessage::Key { id, length: self.key.len() });
        }
        if self.topic.len() > Self::LONGEST_KEY {
            return Err(InvalidMessage::Topic { id, length: self.topic.len() });
        }
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        for (what, length, limit) in [
            ("payload", self.payload.len(), Self::LARGEST_PAYLOAD),
            ("headers", headers, Self::LARGEST_HEADERS),
        ] {
            if length > limit {
                return Err(InvalidMessage::TooLarge { id, what, length, limit });
            }
        }
        Ok(())
    }

    /// Returns the partition of `key` among `partitions`: the FNV-1a digest (64 bits) of the key,
    /// modulo.
    ///
    /// Stores record the partition, so this function never changes. A value of 0 for `partitions`
    /// counts as 1.
    #[must_use]
    pub fn partition(key: &str, partitions: u16) -> u16 {
        let digest = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |digest, byte| {
            (digest ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        (digest % u64::from(partitions.max(1))) as u16
    }
}

/// A message on its way to the publisher.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Message {
    /// The id of the message, equal in all of its deliveries.
    pub id: MessageId,
    /// The position in the store. Later transactions on a key have greater numbers.
    pub sequence: u64,
    /// The key. Relays publish the messages of one key in order.
    pub key: String,
    /// The destination, for the publisher to interpret.
    pub topic: String,
    /// The content of the message.
    pub payload: Vec<u8>,
    /// Names and values, for the publisher to interpret.
    pub headers: Vec<(String, String)>,
    /// The partition of the key.
    pub partition: u16,
    /// When the message became due: the time of the write plus the delay. Wall time since 1970 by
    /// the store's clock.
    pub due_at: Duration,
    /// How many attempts to publish the message have failed. A result that the classifier ignores
    /// does not count.
    pub attempts: u32,
    /// How many times a relay published the message alone, under the suspicion that it had crashed a
    /// relay.
    pub starts: u32,
}

impl Message {
    /// Creates a message that was written and that no publisher has received yet.
    #[must_use]
    pub fn new(message: NewMessage, sequence: u64, partition: u16, due_at: Duration) -> Self {
        let NewMessage { id, key, topic, payload, headers, delay: _ } = message;
        let (attempts, starts) = (0, 0);
        Self { id, sequence, key, topic, payload, headers, partition, due_at, attempts, starts }
    }
}
