//! The clusters of the tests: the mock cluster of librdkafka in this process, and the broker of `BUTTRESS_KAFKA`.

use std::time::Duration;

use buttress::Rng;
use buttress_kafka::{Kafka, Publish, Publisher, Subscribe, Subscription, Topic};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// A cluster with topics that no other test has.
pub(crate) struct Cluster {
    pub kafka: Kafka,
    pub brokers: String,
    /// `None` for a broker outside of this process.
    pub mock: Option<MockCluster<'static, DefaultProducerContext>>,
}

impl Cluster {
    /// Starts a mock cluster of one broker.
    pub(crate) fn mock() -> Self {
        let mock = MockCluster::new(1).unwrap();
        let brokers = mock.bootstrap_servers();
        Self { kafka: Kafka::new(&brokers), brokers, mock: Some(mock) }
    }

    /// Returns a mock cluster with a topic, and a publisher of the topic.
    pub(crate) async fn mock_with(what: &str, partitions: i32) -> (Self, Topic, Publisher) {
        let cluster = Self::mock();
        let topic = cluster.topic(what, partitions);
        let publisher = cluster.publisher(&topic).await;
        (cluster, topic, publisher)
    }

    /// Returns the broker of `BUTTRESS_KAFKA`, if there is one. Without it a test is skipped with a line of output, unless
    /// `BUTTRESS_REQUIRE_SERVICES=1` makes that a failure.
    pub(crate) fn broker(test: &str) -> Option<Self> {
        let Ok(brokers) = std::env::var("BUTTRESS_KAFKA") else {
            let required =
                std::env::var("BUTTRESS_REQUIRE_SERVICES").is_ok_and(|value| value == "1");
            assert!(
                !required,
                "a broker is required: `.ci/kafka` starts one and sets BUTTRESS_KAFKA"
            );
            println!("skipped {test} on a broker: BUTTRESS_KAFKA is not set, see .ci/kafka");
            return None;
        };
        Some(Self { kafka: Kafka::new(&brokers), brokers, mock: None })
    }

    /// Returns a new topic. The mock cluster does not know the request that creates one.
    pub(crate) fn topic(&self, what: &str, partitions: i32) -> Topic {
        let name = fresh(what);
        if let Some(mock) = &self.mock {
            mock.create_topic(&name, partitions, 1).unwrap();
        }
        Topic::new(name).partitions(partitions)
    }

    pub(crate) fn mocked(&self) -> &MockCluster<'static, DefaultProducerContext> {
        self.mock.as_ref().unwrap()
    }

    pub(crate) async fn publisher(&self, topic: &Topic) -> Publisher {
        self.kafka.publisher(topic, Publish::new()).await.unwrap()
    }

    pub(crate) async fn member(&self, topic: &Topic) -> Subscription {
        self.kafka.subscribe(topic, self.group(topic)).await.unwrap()
    }

    /// The shortest session. A rebalance of the mock cluster takes a second less than a session.
    pub(crate) fn session(&self) -> Duration {
        if self.mock.is_some() { 3 * SECOND } else { 6 * SECOND }
    }

    /// The settings of a member. Each topic has a separate group.
    pub(crate) fn group(&self, topic: &Topic) -> Subscribe {
        Subscribe::new(topic.name()).session(self.session())
    }
}

/// Returns a name that no other test has.
pub(crate) fn fresh(what: &str) -> String {
    format!("buttress_{what}_{:016x}", Rng::default().next_u64())
}
