//! [`Topic`]: the stream of a kind of messages, and how it is declared.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};
use buttress::__setters as setters;
use buttress::InvalidConfig;
use buttress_durable::outbox::NewMessage;

use crate::check::check_name;

/// How long the stream of a topic keeps its messages.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Retain {
    /// The stream keeps messages until an operator removes them. The default: nothing is lost. Watch the size of the
    /// stream.
    #[default]
    Forever,
    /// The stream keeps each message for this long, whether it is handled or not. A group that falls behind further
    /// loses messages.
    For(Duration),
    /// The stream keeps each message until every group has handled it. The server confirms
    /// and discards a message that is published before the first group exists. Subscribe before you publish.
    UntilHandled,
}

/// Where the server keeps a stream.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Storage {
    /// The server keeps the stream in files. The default.
    #[default]
    File,
    /// The server keeps the stream in memory. A restart of the server loses all messages.
    Memory,
}

/// A topic: one JetStream stream with a subject per shard.
///
/// Publisher and subscribers name the same topic with the same arguments. The first of them creates the stream. The
/// others compare it, and refuse a different argument with [`SetupError::Mismatch`](crate::SetupError::Mismatch).
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Topic {
    pub(crate) name: String,
    pub(crate) shards: u16,
    retain: Retain,
    storage: Storage,
    replicas: usize,
    max_bytes: Option<u64>,
    duplicate_window: Duration,
    pub(crate) create: bool,
}

impl Topic {
    /// Creates the topic `name`, which is the name of the stream and the first token of its subjects. ASCII letters,
    /// digits, `-` and `_`, at most 64.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            shards: 8,
            retain: Retain::default(),
            storage: Storage::default(),
            replicas: 1,
            max_bytes: None,
            duplicate_window: Duration::from_secs(120),
            create: true,
        }
    }

    setters! {
        /// Sets the number of shards. Default: 8. Between 1 and 256.
        ///
        /// All messages of a key go to one shard, and one member of a group pulls from a shard at a time. So at most
        /// this many members of a group work concurrently. The number cannot be changed later: the keys would move to
        /// other shards, and their order would be lost.
        shards(shards: u16);

        /// Sets how long the stream keeps messages. Default: [`Retain::Forever`].
        retain(retain: Retain);

        /// Sets where the server keeps the stream. Default: [`Storage::File`].
        storage(storage: Storage);

        /// Sets on how many servers of a cluster the stream and its groups are stored. Default: 1. Between 1 and 5.
        replicas(replicas: usize);

        /// Sets the largest size of the stream in bytes. Default: no limit besides the limits of the account. At least
        /// 1.
        ///
        /// A full stream refuses messages ([`PublishError::Full`](crate::PublishError::Full)), and drops none.
        max_bytes(bytes: u64) => Some(bytes);

        /// Sets how long the server recognises a message that is published twice. Default: 2 minutes, as the server has
        /// it. Between 100 ms and 1 day. The server holds all ids of this time in memory.
        duplicate_window(window: Duration);

        /// Sets whether a missing stream is created. Default: `true`.
        ///
        /// With `false` an operator creates it, and a missing stream is
        /// [`SetupError::Missing`](crate::SetupError::Missing).
        create(create: bool);
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        check_name("topic", &self.name)?;
        InvalidConfig::check_range("shards", self.shards, 1..=256)?;
        InvalidConfig::check_range("replicas", self.replicas, 1..=5)?;
        InvalidConfig::check_range("max-bytes", self.max_bytes.unwrap_or(1), 1..=i64::MAX as u64)?;
        let (shortest, day) = (Duration::from_millis(100), Duration::from_secs(24 * 3600));
        InvalidConfig::check_range("duplicate-window", self.duplicate_window, shortest..=day)?;
        if let Retain::For(age) = self.retain {
            InvalidConfig::check_range("retain", age, shortest..=365 * day)?;
            // The server refuses a window that is longer than the age.
            InvalidConfig::check_range("duplicate-window", self.duplicate_window, shortest..=age)?;
        }
        Ok(())
    }

    /// Returns the subject of a shard.
    pub(crate) fn subject(&self, shard: u16) -> String {
        format!("{}.{shard}", self.name)
    }

    /// Returns the shard of a key.
    pub(crate) fn shard_of(&self, key: &str) -> u16 {
        NewMessage::partition(key, self.shards)
    }

    /// Returns the subject of the table of a group.
    pub(crate) fn table(&self, group: &str) -> String {
        format!("{}-groups.{group}", self.name)
    }

    /// Returns the stream with the tables of all groups. It keeps the last one of each group.
    pub(crate) fn tables(&self) -> Config {
        Config {
            name: format!("{}-groups", self.name),
            subjects: vec![self.table("*")],
            max_messages_per_subject: 1,
            storage: self.storage_type(),
            num_replicas: self.replicas,
            ..Config::default()
        }
    }

    fn storage_type(&self) -> StorageType {
        match self.storage {
            Storage::File => StorageType::File,
            Storage::Memory => StorageType::Memory,
        }
    }

    /// Returns the stream as the server should have it. One subject per shard, so that a publisher with more shards
    /// finds no stream, and so that the number of shards can be compared.
    pub(crate) fn stream(&self) -> Config {
        let (retention, max_age) = match self.retain {
            Retain::Forever => (RetentionPolicy::Limits, Duration::ZERO),
            Retain::For(age) => (RetentionPolicy::Limits, age),
            Retain::UntilHandled => (RetentionPolicy::Interest, Duration::ZERO),
        };
        Config {
            name: self.name.clone(),
            subjects: (0..self.shards).map(|shard| self.subject(shard)).collect(),
            retention,
            max_age,
            storage: self.storage_type(),
            num_replicas: self.replicas,
            max_bytes: self.max_bytes.map_or(-1, |bytes| i64::try_from(bytes).unwrap_or(i64::MAX)),
            // A full stream refuses. It never drops a message that a group has not handled.
            discard: DiscardPolicy::New,
            duplicate_window: self.duplicate_window,
            ..Config::default()
        }
    }

    /// Returns the first argument that a stream on the server has with another value: its name, the wanted value, and
    /// the value of the server.
    pub(crate) fn mismatch(&self, found: &Config) -> Option<(&'static str, String, String)> {
        let wanted = self.stream();
        let unlimited = |bytes: i64| bytes.max(-1);
        let differs = |name, one: &dyn std::fmt::Debug, other: &dyn std::fmt::Debug| {
            let (one, other) = (format!("{one:?}"), format!("{other:?}"));
            (one != other).then_some((name, one, other))
        };
        if wanted.subjects != found.subjects {
            return differs("shards", &wanted.subjects.len(), &found.subjects.len())
                .or_else(|| differs("shards", &wanted.subjects, &found.subjects));
        }
        differs("retain", &wanted.retention, &found.retention)
            .or_else(|| differs("retain", &wanted.max_age, &found.max_age))
            .or_else(|| differs("storage", &wanted.storage, &found.storage))
            .or_else(|| differs("replicas", &wanted.num_replicas, &found.num_replicas.max(1)))
            .or_else(|| {
                differs("max-bytes", &unlimited(wanted.max_bytes), &unlimited(found.max_bytes))
            })
            .or_else(|| {
                differs("duplicate-window", &wanted.duplicate_window, &found.duplicate_window)
            })
    }
}
