//! [`Topic`]: a number of streams with one name.

use std::fmt;
use std::sync::Arc;

use buttress_durable::outbox::NewMessage;

use crate::error::Error;

/// A topic: streams with one name, each of them a shard.
///
/// A key belongs to one shard, so its messages have one order. One consumer of a group reads a shard at a time.
/// The streams are the keys `{name}:0`, `{name}:1` and so on. The braces put all keys of a topic into one slot of a
/// cluster.
#[derive(Clone, PartialEq, Eq)]
#[must_use]
pub struct Topic {
    name: Arc<str>,
    shards: u16,
}

impl Topic {
    /// The longest name of a topic or a group in bytes.
    pub const LONGEST_NAME: usize = 200;
    /// The most shards of a topic.
    pub const MOST_SHARDS: u16 = 1024;

    /// Creates a topic of 16 shards. A group can have as many consumers at work.
    ///
    /// # Errors
    /// Returns [`Error::Name`] if the name is empty, longer than [`LONGEST_NAME`](Self::LONGEST_NAME), or has a brace
    /// or a control character.
    pub fn new(name: impl Into<Arc<str>>) -> Result<Self, Error> {
        let name = name.into();
        check_name("topic", &name)?;
        Ok(Self { name, shards: 16 })
    }

    /// Sets the number of shards. Default: 16. Between 1 and [`MOST_SHARDS`](Self::MOST_SHARDS).
    ///
    /// The number cannot change later, because the keys would change their shards. Each program of the topic must
    /// name the same number.
    ///
    /// # Errors
    /// Returns [`Error::Name`] if the number is out of its bounds.
    pub fn shards(self, shards: u16) -> Result<Self, Error> {
        if (1..=Self::MOST_SHARDS).contains(&shards) {
            return Ok(Self { shards, ..self });
        }
        let (field, value) = ("shards", shards.to_string());
        Err(Error::Name { field, value, expected: "a number between 1 and 1024" })
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn count(&self) -> u16 {
        self.shards
    }

    /// Returns the key of a stream.
    pub(crate) fn stream(&self, shard: usize) -> String {
        format!("{{{}}}:{shard}", self.name)
    }

    /// Returns the key of the topic's declaration.
    pub(crate) fn declaration(&self) -> String {
        format!("{{{}}}:topic", self.name)
    }

    /// Returns the key of the lease of a shard.
    pub(crate) fn lease(&self, group: &str, shard: usize) -> String {
        format!("{{{}}}:lease:{group}:{shard}", self.name)
    }

    /// Returns the key of the members of a group.
    pub(crate) fn members(&self, group: &str) -> String {
        format!("{{{}}}:members:{group}", self.name)
    }

    /// Returns the shard of a message.
    pub(crate) fn shard_of(&self, key: &str, id: &dyn fmt::Display) -> usize {
        // Messages without a key have no order, so they are spread.
        let shard = match key {
            "" => NewMessage::partition(&id.to_string(), self.shards),
            key => NewMessage::partition(key, self.shards),
        };
        shard.into()
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Topic").field("name", &self.name).field("shards", &self.shards).finish()
    }
}

pub(crate) fn check_name(field: &'static str, name: &str) -> Result<(), Error> {
    let wrong = |c: char| c.is_control() || c == '{' || c == '}';
    if !name.is_empty() && name.len() <= Topic::LONGEST_NAME && !name.contains(wrong) {
        return Ok(());
    }
    let value = name.chars().take(64).collect::<String>().escape_debug().to_string();
    let expected = "1 to 200 bytes without braces and control characters";
    Err(Error::Name { field, value, expected })
}
