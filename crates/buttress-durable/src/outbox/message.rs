//! Messages, as they are written and as they are relayed.

use std::time::Duration;

use crate::id::ids;

ids! {
    /// One message: what a consumer recognises a repeated delivery by.
    MessageId;
}

/// A message that cannot be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidMessage {
    /// A key of no bytes or too many.
    #[error(
        "message {id}: key of {length} bytes, between 1 and {} are allowed",
        NewMessage::LONGEST_KEY
    )]
    Key {
        /// Which message.
        id: MessageId,
        /// The length of its key in bytes.
        length: usize,
    },
    /// A topic of too many bytes.
    #[error(
        "message {id}: topic of {length} bytes, at most {} are allowed",
        NewMessage::LONGEST_KEY
    )]
    Topic {
        /// Which message.
        id: MessageId,
        /// The length of its topic in bytes.
        length: usize,
    },
    /// A payload, or headers, of too many bytes.
    #[error("message {id}: {what} of {length} bytes, at most {limit} are allowed")]
    TooLarge {
        /// Which message.
        id: MessageId,
        /// The payload or the headers.
        what: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The greatest length.
        limit: usize,
    },
}

/// A message to be written.
#[non_exhaustive]
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use = "a message does nothing until it is written"]
pub struct NewMessage {
    /// Drawn by the writer; writing the same one twice is an error of the database.
    pub id: MessageId,
    /// Messages of one key are relayed in order.
    pub key: String,
    /// Where it goes, for the publisher to interpret. May be empty.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// More about it, for the publisher to interpret.
    pub headers: Vec<(String, String)>,
    /// How long after it was written it may be relayed; it does not hold up later ones of its key.
    pub delay: Duration,
}

impl NewMessage {
    /// The longest key or topic in bytes.
    pub const LONGEST_KEY: usize = 512;
    /// The largest payload in bytes: 1 MiB. A message names what happened; large contents belong in a
    /// store of their own.
    pub const LARGEST_PAYLOAD: usize = 1 << 20;
    /// The most bytes of header names and values together: 64 KiB.
    pub const LARGEST_HEADERS: usize = 1 << 16;

    /// A message to be relayed as soon as its transaction is committed.
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

    /// Where it goes.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.topic = topic.into();
        self
    }

    /// One more header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// How long after it was written it may be relayed.
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Whether every store can hold it.
    ///
    /// # Errors
    /// Which part is too short or too long.
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

    /// In which of `partitions` the messages of `key` are: the FNV-1a digest (64 bits) of the key,
    /// modulo. It is stored, so it never changes.
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
    /// Which message: the same in every delivery of it.
    pub id: MessageId,
    /// Where it stands: later transactions on a key have greater numbers.
    pub sequence: u64,
    /// Messages of one key come in order.
    pub key: String,
    /// Where it goes.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// More about it.
    pub headers: Vec<(String, String)>,
    /// The partition of its key.
    pub partition: u16,
    /// When it was written, or when its delay had passed, as wall time since 1970 by the store's clock.
    pub due_at: Duration,
    /// How often the publisher refused it or let it time out.
    pub attempts: u32,
    /// How often it was started alone, under suspicion of having brought a relay down.
    pub starts: u32,
}

impl Message {
    /// Creates a message that was written, and that no publisher has seen yet.
    #[must_use]
    pub fn new(message: NewMessage, sequence: u64, partition: u16, due_at: Duration) -> Self {
        let NewMessage { id, key, topic, payload, headers, delay: _ } = message;
        let (attempts, starts) = (0, 0);
        Self { id, sequence, key, topic, payload, headers, partition, due_at, attempts, starts }
    }
}
