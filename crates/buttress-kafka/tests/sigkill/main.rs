//! A relay and a group of three consumers that are killed with SIGKILL, over connections to a broker of Kafka's protocol
//! that are cut at random.
//!
//! `BUTTRESS_KAFKA_SECONDS` is the time. Default: 10.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers fail as the tests do")]

#[path = "../suite/broker.rs"]
mod broker;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use buttress_kafka::{Kafka, Publish, Publisher, Subscribe, Subscription, Topic};
use buttress_sim::TcpProxy;
use buttress_torture::Transport;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tower::BoxError;

use broker::Broker;

const TEST: &str = "events_7_2_kills_and_cuts";
const TOPIC: &str = "orders";
const PARTITIONS: i32 = 6;
const SECOND: Duration = Duration::from_secs(1);

struct Topics;

fn at(address: &str) -> (Kafka, Topic) {
    (Kafka::new(address), Topic::new(TOPIC).partitions(PARTITIONS))
}

impl Transport for Topics {
    type Publisher = Publisher;
    type Source = Subscription;

    async fn publisher(&self, address: &str) -> Result<Publisher, BoxError> {
        let (kafka, topic) = at(address);
        Ok(kafka.publisher(&topic, Publish::new().limit(SECOND)).await?)
    }

    async fn source(&self, address: &str) -> Result<Subscription, BoxError> {
        let (kafka, topic) = at(address);
        // Brokers take no shorter session.
        Ok(kafka.subscribe(&topic, Subscribe::new("billing").session(6 * SECOND)).await?)
    }

    fn consumers(&self) -> usize {
        3
    }

    /// The group waits for a killed member until its session ends.
    fn life(&self) -> Duration {
        8 * SECOND
    }

    async fn published(&self, address: &str) -> Result<Vec<(String, Vec<u8>)>, BoxError> {
        let address = address.to_owned();
        tokio::task::spawn_blocking(move || read_all(&address)).await?
    }
}

fn read_all(address: &str) -> Result<Vec<(String, Vec<u8>)>, BoxError> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", address).set("group.id", "count");
    let consumer: BaseConsumer = config.set("enable.auto.commit", "false").create()?;
    let (mut all, mut count) = (TopicPartitionList::new(), 0);
    for partition in 0..PARTITIONS {
        let (low, high) = consumer.fetch_watermarks(TOPIC, partition, 10 * SECOND)?;
        count += usize::try_from(high - low)?;
        all.add_partition_offset(TOPIC, partition, Offset::Beginning)?;
    }
    consumer.assign(&all)?;
    let (mut found, mut silent) = (Vec::new(), 0);
    while found.len() < count {
        let Some(message) = consumer.poll(SECOND) else {
            silent += 1;
            let found = found.len();
            assert!(silent < 60, "{found} of {count} messages came, and then none for a minute");
            continue;
        };
        silent = 0;
        let message = message?;
        let key = String::from_utf8_lossy(message.key().unwrap_or_default()).into_owned();
        found.push((key, message.payload().unwrap_or_default().to_vec()));
    }
    Ok(found)
}

#[tokio::main]
async fn main() -> Result<ExitCode, BoxError> {
    if !buttress_torture::begin(&Topics, TEST).await? {
        return Ok(ExitCode::SUCCESS);
    }
    // Clients get the address of the broker from the broker itself. The broker names the proxy.
    let address = SocketAddr::from(([127, 0, 0, 1], broker::free_port()));
    let proxy = TcpProxy::to(address)?;
    let Some(_broker) = Broker::start(TEST, address, proxy.address()).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let time = buttress_torture::time_of("BUTTRESS_KAFKA_SECONDS");
    buttress_torture::run(&Topics, address, &proxy, time).await
}
