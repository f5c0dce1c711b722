//! Topics of Kafka.

use std::time::{Duration, Instant};

use buttress_durable::outbox::Message;
use buttress_kafka::{Kafka, Publish, Subscribe, Subscription, Topic};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::bench::{
    Error, MESSAGES, Rates, Row, all, consume_once_admitted, key, new_message, payload, publish,
    rate, relay,
};
use crate::report::Target;
use crate::take_over;

/// The shortest that brokers take.
const SESSION: Duration = Duration::from_secs(6);
/// More than the broker needs to admit a member to a group.
const ADMITS: Duration = Duration::from_secs(15);
const TAKE_OVER: &str = "bench-take-over";

/// The address of the broker, which `.ci/kafka` sets.
fn brokers() -> Option<String> {
    std::env::var("BUTTRESS_KAFKA").ok()
}

pub async fn measure(rounds: usize) -> Result<Vec<Row>, Error> {
    let Some(brokers) = brokers() else {
        println!("left out: Kafka: BUTTRESS_KAFKA is not set, see .ci/kafka");
        return Ok(Vec::new());
    };
    let kafka = Kafka::new(&brokers);
    let mut rows = Vec::new();
    for partitions in [1, 8] {
        let mut rates = Rates::default();
        for round in 0..rounds {
            let topic = |whose: &str| {
                Topic::new(format!("bench-{whose}-{partitions}-{round}")).partitions(partitions)
            };
            let raw = topic("raw");
            // The publisher creates the topic.
            drop(kafka.publisher(&raw, Publish::new()).await?);
            rates.raw_out.push(publish_raw(&brokers, raw.name()).await?);
            rates.raw_in.push(consume_raw(&brokers, raw.name()).await?);
            let ours = topic("ours");
            let publisher = kafka.publisher(&ours, Publish::new()).await?;
            rates.ours_out.push(publish(&publisher).await?);
            rates.ours_in.push(consume_once_admitted(member(&kafka, &ours).await?).await?);
            let relayed = kafka.publisher(&topic("relayed"), Publish::new()).await?;
            rates.ours_relayed.push(relay(&relayed).await?);
        }
        let broker =
            format!("Kafka, {partitions} partitions").replace("1 partitions", "1 partition");
        rows.extend(rates.rows(&broker, 0.9));
    }
    Ok(rows)
}

async fn member(kafka: &Kafka, topic: &Topic) -> Result<Subscription, Error> {
    Ok(kafka.subscribe(topic, Subscribe::new(topic.name()).session(SESSION)).await?)
}

/// Holds a message until this process is killed.
pub async fn hold() -> Result<(), Error> {
    let kafka = Kafka::new(brokers().ok_or("no broker")?);
    take_over::hold(member(&kafka, &Topic::new(TAKE_OVER).partitions(1)).await?).await
}

pub async fn take_over() -> Result<Option<Target>, Error> {
    let Some(brokers) = brokers() else { return Ok(None) };
    let (kafka, topic) = (Kafka::new(&brokers), Topic::new(TAKE_OVER).partitions(1));
    let publisher = kafka.publisher(&topic, Publish::new()).await?;
    let publish = async {
        publisher.publish(Message::new(new_message(0), 0, 0, Duration::ZERO)).await?;
        Ok(())
    };
    let target =
        take_over::measure("kafka", SESSION, ADMITS, publish, member(&kafka, &topic)).await?;
    Ok(Some(target))
}

/// Returns a configuration of the client with the properties that ours sets.
fn config(brokers: &str, properties: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", brokers);
    for (property, value) in properties {
        config.set(*property, *value);
    }
    config
}

/// Publishes with the same headers and the same settings as ours, and waits for each confirmation.
async fn publish_raw(brokers: &str, topic: &str) -> Result<f64, Error> {
    let producer: FutureProducer = config(
        brokers,
        &[
            ("enable.idempotence", "true"),
            ("acks", "all"),
            ("message.timeout.ms", "5000"),
            ("partitioner", "murmur2_random"),
            ("linger.ms", "0"),
        ],
    )
    .create()?;
    let begun = Instant::now();
    let producer = &producer;
    let calls = (0..MESSAGES).map(|number| async move {
        let (key, payload) = (key(number), payload());
        let header = Header { key: "buttress-topic", value: Some("order.paid") };
        let record = FutureRecord::to(topic).key(&key).payload(&payload);
        let sent = producer.send_result(record.headers(OwnedHeaders::new().insert(header)));
        sent.map_err(|(error, _)| error)?.await?.map_err(|(error, _)| error)?;
        Ok(())
    });
    all(calls).await?;
    Ok(rate(begun))
}

/// Polls on a separate thread, and stores the offset of each message. The client commits the stored offsets.
async fn consume_raw(brokers: &str, topic: &str) -> Result<f64, Error> {
    let session = SESSION.as_millis().to_string();
    let consumer: BaseConsumer = config(
        brokers,
        &[
            ("group.id", topic),
            ("session.timeout.ms", &session),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("enable.auto.commit", "true"),
            ("auto.commit.interval.ms", "100"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "earliest"),
            // The bounds of the messages that wait in the client are those of ours.
            ("queued.min.messages", "1000"),
            ("queued.max.messages.kbytes", "8192"),
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.wait.max.ms", "50"),
        ],
    )
    .create()?;
    consumer.subscribe(&[topic])?;
    tokio::task::spawn_blocking(move || {
        let (mut begun, mut handled) = (Instant::now(), 0);
        while handled < MESSAGES {
            let Some(message) = consumer.poll(Duration::from_secs(1)) else { continue };
            if handled == 0 {
                begun = Instant::now();
            }
            consumer.store_offset_from_message(&message?)?;
            handled += 1;
        }
        Ok(rate(begun))
    })
    .await?
}
