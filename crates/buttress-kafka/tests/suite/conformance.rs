//! The conformance suites of sources and publishers.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::{Received, Shard};
use buttress_durable::event::Binding;
use buttress_durable::outbox::{Message, NewMessage};
use buttress_kafka::{Publish, Publisher, Start, Subscribe, Subscription, Topic};
use buttress_sim::conformance::publisher::{self, Broker};
use buttress_sim::conformance::source::{self, Features, Topology, Transport};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::sync::Mutex;
use tower::BoxError;

use crate::cluster::{Cluster, SECOND};

/// The client and the brokers take 1 MB with the headers.
const LARGEST: usize = 900_000;
const PARTITIONS: i32 = 4;

/// The suites name their groups. On one broker they run one after the other.
static ON_THE_BROKER: Mutex<()> = Mutex::const_new(());

/// A new topic for each case, on the broker, or on a new mock cluster.
struct Suite {
    cluster: RefCell<Rc<Cluster>>,
    topic: RefCell<Option<(Topic, Publisher)>>,
    /// Members that were dropped leave their groups after their case.
    earlier: RefCell<Vec<Rc<Cluster>>>,
}

impl Suite {
    fn new(cluster: Cluster) -> Self {
        let (cluster, earlier) = (RefCell::new(Rc::new(cluster)), RefCell::default());
        Self { cluster, topic: RefCell::new(None), earlier }
    }

    fn cluster(&self) -> Rc<Cluster> {
        self.cluster.borrow().clone()
    }

    fn topic(&self) -> (Topic, Publisher) {
        self.topic.borrow().clone().unwrap()
    }

    async fn begin(&self) -> Publisher {
        if self.cluster().mock.is_some() {
            let earlier = self.cluster.replace(Rc::new(Cluster::mock()));
            self.earlier.borrow_mut().push(earlier);
        }
        let cluster = self.cluster();
        let topic = cluster.topic("conformance", PARTITIONS);
        // One case waits for this long. A busy machine does not miss it.
        let settings = Publish::new().limit(10 * SECOND);
        let publisher = cluster.kafka.publisher(&topic, settings).await.unwrap();
        self.topic.replace(Some((topic, publisher.clone())));
        publisher
    }

    async fn member(&self, settings: Subscribe) -> Subscription {
        self.cluster().kafka.subscribe(&self.topic().0, settings).await.unwrap()
    }
}

impl Transport for Suite {
    type Source = Subscription;

    fn features(&self) -> Features {
        let mut features = Features::all(LARGEST);
        // The member leaves its group, and the others take over after a rebalance.
        features.frees_at_once = false;
        features
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    async fn fresh(&self) {
        self.begin().await;
    }

    async fn publish(&self, message: NewMessage) -> Result<(), BoxError> {
        self.topic().1.publish(Message::new(message, 0, 0, Duration::ZERO)).await?;
        Ok(())
    }

    async fn subscribe(&self, group: &str) -> Subscription {
        self.member(Subscribe::new(group).session(self.cluster().session())).await
    }
}

impl Topology for Suite {
    /// The mock cluster does not look up times.
    fn can_begin(&self, start: Start) -> bool {
        !matches!(start, Start::At(_)) || self.cluster().mock.is_none()
    }

    async fn subscribe_at(&self, name: &str, start: Start) -> Subscription {
        // A group of one topic: the members of an earlier case, of the same name, may not have left yet.
        let name = format!("{name}-{}", self.topic().0.name());
        self.member(Subscribe::new(name).session(self.cluster().session()).start(start)).await
    }

    async fn subscribe_otherwise(&self, _: &str) -> (Result<Subscription, BoxError>, &'static str) {
        let topic = self.topic().0.partitions(PARTITIONS + 1);
        let cluster = self.cluster();
        let answer = cluster.kafka.subscribe(&topic, cluster.group(&topic)).await;
        (answer.map_err(Into::into), "partitions")
    }
}

impl Broker for Suite {
    type Publisher = Publisher;

    fn features(&self) -> publisher::Features {
        // A publisher to a topic that is missing cannot be made.
        publisher::Features::all(LARGEST)
            .refuses_unrouted(false)
            .can_be_cut(self.cluster().mock.is_some())
    }

    fn clock(&self) -> Clock {
        Clock::default()
    }

    async fn fresh(&self) -> Publisher {
        self.begin().await
    }

    /// Reads every partition with a separate client, without a group.
    async fn stored(&self) -> Vec<Received<()>> {
        let (topic, _) = self.topic();
        let name = topic.name();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.cluster().brokers).set("group.id", "stored");
        let consumer: BaseConsumer = config.create().unwrap();
        let mut list = TopicPartitionList::new();
        for partition in 0..PARTITIONS {
            list.add_partition_offset(name, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut stored = Vec::new();
        // Until nothing comes for a while: the broker of the tests counts batches where it should count messages.
        while let Some(message) = consumer.poll(2 * SECOND) {
            let message = message.unwrap();
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let key = text(message.key().unwrap_or_default());
            let mut found = Received::new((), Shard(0), key, message.payload().unwrap());
            for header in message.headers().unwrap().iter() {
                let value = text(header.value.unwrap());
                match header.key {
                    "buttress-topic" => found.topic = value,
                    name => found.headers.push(Binding::Kafka.read(name, &value).unwrap()),
                }
            }
            stored.push(found);
        }
        stored
    }

    async fn cut(&self, is_cut: bool) {
        let cluster = self.cluster();
        let mock = cluster.mocked();
        let cutting = if is_cut { mock.broker_down(1) } else { mock.broker_up(1) };
        cutting.unwrap();
    }
}

#[tokio::test]
async fn events_2_the_mock_cluster_passes_every_case_of_sources() {
    source::all(&Suite::new(Cluster::mock())).await;
}

#[tokio::test]
async fn events_2_a_broker_passes_every_case_of_sources() {
    let Some(cluster) = Cluster::broker("the suite of sources") else { return };
    let _alone = ON_THE_BROKER.lock().await;
    source::all(&Suite::new(cluster)).await;
}

#[tokio::test]
async fn events_2_12_the_mock_cluster_passes_every_case_of_topologies() {
    source::topology(&Suite::new(Cluster::mock())).await;
}

#[tokio::test]
async fn events_2_12_a_broker_passes_every_case_of_topologies() {
    let Some(cluster) = Cluster::broker("the suite of topologies") else { return };
    let _alone = ON_THE_BROKER.lock().await;
    source::topology(&Suite::new(cluster)).await;
}

#[tokio::test]
async fn events_2_15_the_mock_cluster_passes_every_case_of_publishers() {
    publisher::all(&Suite::new(Cluster::mock())).await;
}

#[tokio::test]
async fn events_2_15_a_broker_passes_every_case_of_publishers() {
    let Some(cluster) = Cluster::broker("the suite of publishers") else { return };
    publisher::all(&Suite::new(cluster)).await;
}
