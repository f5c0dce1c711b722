//! [`Topic`]: a topic, and how it is declared.

use buttress::__setters as setters;
use buttress::InvalidConfig;

use crate::check::check_name;

/// A topic of Kafka.
///
/// Publisher and subscribers name the same topic with the same number of partitions. The first of them creates the
/// topic. The others compare it, and refuse another number with [`SetupError::Mismatch`](crate::SetupError::Mismatch).
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct Topic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) replicas: Option<i32>,
    pub(crate) create: bool,
}

impl Topic {
    /// Names a topic: 1 to 249 ASCII letters, digits, `-`, `_` or `.`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), partitions: 8, replicas: None, create: true }
    }

    /// Returns the name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    setters! {
        /// Sets the number of partitions. Default: 8. Between 1 and 10 000.
        ///
        /// All messages of a key go to one partition, and one member of a group owns a partition at a time. So at most
        /// this many members of a group work concurrently. Do not change the number later: keys would move to other
        /// partitions, and their order would be lost.
        partitions(partitions: i32);

        /// Sets on how many brokers a new topic is stored. Default: the `default.replication.factor` of the broker.
        /// Between 1 and 100. A topic that exists is not compared.
        replicas(replicas: i32) => Some(replicas);

        /// Sets whether a missing topic is created. Default: `true`.
        ///
        /// With `false` an operator creates it, and a missing topic is
        /// [`SetupError::Missing`](crate::SetupError::Missing).
        create(create: bool);
    }

    pub(crate) fn check(&self) -> Result<(), InvalidConfig> {
        check_name("topic", &self.name)?;
        InvalidConfig::check_range("partitions", self.partitions, 1..=10_000)?;
        InvalidConfig::check_range("replicas", self.replicas.unwrap_or(1), 1..=100)
    }
}
