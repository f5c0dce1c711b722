//! [`Admin`]: finds and creates topics.

use std::time::Duration;

use rdkafka::ClientContext;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::{Client, DefaultClientContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use super::error::Error;
use super::{Properties, config};

/// A client that finds and creates topics.
pub(crate) struct Admin(AdminClient<DefaultClientContext>);

/// The answer of the brokers about a topic.
pub(crate) struct Found {
    pub partitions: Vec<i32>,
    /// What the brokers report instead. A topic without partitions is unknown.
    pub error: Option<Error>,
}

impl Admin {
    pub(crate) fn new(properties: &Properties) -> Result<Self, Error> {
        Ok(Self(config(properties).create()?))
    }

    /// Asks the brokers for a topic, and waits for the answer up to `limit`. Blocks the thread.
    pub(crate) fn find(&self, topic: &str, limit: Duration) -> Result<Found, Error> {
        find(self.0.inner(), topic, limit)
    }

    /// Creates a topic, and waits for it up to `limit`. Returns `false` if the topic exists. Without `replicas` the brokers
    /// use their default.
    pub(crate) async fn create(
        &self,
        topic: &str,
        partitions: i32,
        replicas: Option<i32>,
        limit: Duration,
    ) -> Result<bool, Error> {
        // -1: the default of the broker.
        let replicas = TopicReplication::Fixed(replicas.unwrap_or(-1));
        let new = NewTopic::new(topic, partitions, replicas);
        let options = AdminOptions::new().operation_timeout(Some(limit));
        let options = options.request_timeout(Some(limit));
        for answer in self.0.create_topics([&new], &options).await? {
            match answer {
                Ok(_) => {}
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => return Ok(false),
                Err((_, code)) => return Err(KafkaError::AdminOp(code).into()),
            }
        }
        Ok(true)
    }
}

/// Asks the brokers for a topic through any client.
pub(super) fn find<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    limit: Duration,
) -> Result<Found, Error> {
    let metadata = client.fetch_metadata(Some(topic), limit)?;
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let partitions = found.into_iter().flat_map(|found| found.partitions());
    let partitions: Vec<i32> = partitions.map(|partition| partition.id()).collect();
    let unknown = partitions.is_empty().then_some(RDKafkaErrorCode::UnknownTopicOrPartition);
    let code = found.and_then(|found| found.error()).map(RDKafkaErrorCode::from).or(unknown);
    let error = code.map(|code| KafkaError::MetadataFetch(code).into());
    Ok(Found { partitions, error })
}
