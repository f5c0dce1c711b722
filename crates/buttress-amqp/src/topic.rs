//! [`Topic`]: the exchange of a kind of messages, and the names of its queues.

use buttress::__setters as setters;
use buttress::InvalidConfig;
use buttress_durable::outbox::NewMessage;

use crate::check::check_name;

/// A topic: one exchange, and for each group a quorum queue per shard.
///
/// Publisher and subscribers name the same topic with the same number of shards. The first of them declares the
/// exchange. The others compare it, and refuse a different number with
/// [`SetupError::Mismatch`](crate::SetupError::Mismatch).
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Topic {
    pub(crate) name: String,
    pub(crate) shards: u16,
    pub(crate) create: bool,
}

impl Topic {
    /// Creates the topic `name`, which is the name of its exchange and the first word of the names of its queues. It
    /// has at most 64 ASCII letters, digits, `-` and `_`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), shards: 8, create: true }
    }

    setters! {
        /// Sets the number of shards. Default: 8. Between 1 and 256.
        ///
        /// All messages of a key go to one shard, and one member of a group consumes a shard at a time. So at most this
        /// many members of a group work concurrently. The number cannot be changed later: the keys would move to other
        /// shards, and their order would be lost.
        shards(shards: u16);

        /// Sets whether missing exchanges and queues are declared. Default: `true`.
        ///
        /// With `false` an operator declares them, and a missing one is
        /// [`SetupError::Missing`](crate::SetupError::Missing). Arguments are then not compared.
        create(create: bool);
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        check_name("topic", &self.name)?;
        InvalidConfig::check_range("shards", self.shards, 1..=256)
    }

    /// Returns the shard of a key. Messages without a key are spread over all shards.
    pub(crate) fn shard_of(&self, key: &str, id: &str) -> u16 {
        NewMessage::partition(if key.is_empty() { id } else { key }, self.shards)
    }

    /// Returns the exchange that records the number of shards. It has no queue, and takes no message.
    pub(crate) fn record(&self) -> String {
        format!("{}.shards", self.name)
    }

    /// Returns the exchange of messages that RabbitMQ does not deliver any more.
    pub(crate) fn dead_exchange(&self) -> String {
        format!("{}.dead", self.name)
    }

    /// Returns the exchange of messages that go back to their queue after a wait.
    pub(crate) fn retry_exchange(&self) -> String {
        format!("{}.retry", self.name)
    }

    /// Returns the queue of a group, or the words before the last one of the queue of a shard.
    pub(crate) fn of_group(&self, group: &str, what: &str) -> String {
        format!("{}.{group}.{what}", self.name)
    }

    /// Returns the queue of a shard.
    pub(crate) fn queue(&self, group: &str, shard: u16) -> String {
        format!("{}.{group}.{shard}", self.name)
    }

    /// Returns the queue of messages of a group that RabbitMQ does not deliver any more.
    pub(crate) fn dead_queue(&self, group: &str) -> String {
        self.of_group(group, "dead")
    }

    /// Returns the queue of messages of a group that wait.
    pub(crate) fn retry_queue(&self, group: &str) -> String {
        self.of_group(group, "retry")
    }
}
