//! Declares exchanges and queues, and compares them with the ones of the server.

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ExchangeKind};

use crate::error::{NOT_FOUND, SetupError, code};
use crate::mismatch::Mismatch;
use crate::rabbit::Rabbit;
use crate::subscribe::Subscribe;
use crate::topic::Topic;

/// RabbitMQ 4 drops a message of a quorum queue after 20 returned deliveries, unless the queue has another limit.
const UNLIMITED: i32 = i32::MAX;

/// Declares the exchange of a topic.
pub(crate) async fn topic(
    rabbit: &Rabbit,
    connection: &Connection,
    topic: &Topic,
) -> Result<(), SetupError> {
    rabbit.within("declaring a topic", declare_topic(connection, topic)).await?
}

/// Declares the queues of a group.
pub(crate) async fn group(
    rabbit: &Rabbit,
    connection: &Connection,
    topic: &Topic,
    settings: &Subscribe,
) -> Result<(), SetupError> {
    rabbit.within("declaring a group", declare_group(connection, topic, settings)).await?
}

async fn declare_topic(connection: &Connection, topic: &Topic) -> Result<(), SetupError> {
    let declaring = Declaring::new(connection, topic).await?;
    declaring.exchange(&topic.name, ExchangeKind::Topic, FieldTable::default()).await?;
    if topic.create {
        // RabbitMQ compares the alternate exchange, and no argument of another name.
        let shards = format!("{}.{}", topic.record(), topic.shards);
        let arguments = table([("alternate-exchange", text(shards))]);
        declaring.exchange(&topic.record(), ExchangeKind::Fanout, arguments).await?;
    }
    Ok(())
}

async fn declare_group(
    connection: &Connection,
    topic: &Topic,
    settings: &Subscribe,
) -> Result<(), SetupError> {
    let declaring = Declaring::new(connection, topic).await?;
    let group = &settings.group;
    if topic.create {
        let (dead, queue) = (topic.dead_exchange(), topic.dead_queue(group));
        declaring.exchange(&dead, ExchangeKind::Topic, FieldTable::default()).await?;
        declaring.queue(&queue, kept()).await?;
        declaring.bind(&queue, &dead, group).await?;
        let (retry, queue) = (topic.retry_exchange(), topic.retry_queue(group));
        declaring.exchange(&retry, ExchangeKind::Topic, FieldTable::default()).await?;
        declaring.queue(&queue, waiting(settings)).await?;
        declaring.bind(&queue, &retry, &topic.of_group(group, "*")).await?;
    }
    for shard in 0..topic.shards {
        let queue = topic.queue(group, shard);
        declaring.queue(&queue, of_shard(topic, settings)).await?;
        if topic.create {
            declaring.bind(&queue, &topic.name, &shard.to_string()).await?;
        }
    }
    Ok(())
}

/// Returns the arguments of a shard's queue.
fn of_shard(topic: &Topic, settings: &Subscribe) -> FieldTable {
    let mut arguments = forwarding(&topic.dead_exchange());
    arguments
        .insert("x-dead-letter-routing-key".into(), text(settings.group.clone()))
        .insert("x-single-active-consumer".into(), AMQPValue::Boolean(true))
        .insert("x-delivery-limit".into(), limit(settings.delivery_limit));
    if let Some(bytes) = settings.max_bytes {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        arguments.insert("x-max-length-bytes".into(), AMQPValue::LongLongInt(bytes));
    }
    arguments
}

/// Returns the arguments of a queue whose messages go back to their queues: the default exchange routes a message to
/// the queue that its routing key names.
fn waiting(settings: &Subscribe) -> FieldTable {
    let mut arguments = forwarding("");
    let wait = i64::try_from(settings.retry_after.as_millis()).unwrap_or(i64::MAX);
    arguments
        .insert("x-message-ttl".into(), AMQPValue::LongLongInt(wait))
        .insert("x-delivery-limit".into(), AMQPValue::LongInt(UNLIMITED));
    arguments
}

/// Returns the arguments of a quorum queue that keeps its messages.
fn kept() -> FieldTable {
    let limit = ("x-delivery-limit", AMQPValue::LongInt(UNLIMITED));
    table([("x-queue-type", text("quorum")), limit])
}

/// Returns the arguments of a quorum queue that forwards messages beyond its delivery limit to `exchange`. It keeps a
/// message until the next queue has confirmed it.
fn forwarding(exchange: &str) -> FieldTable {
    table([
        ("x-queue-type", text("quorum")),
        ("x-dead-letter-exchange", text(exchange)),
        ("x-dead-letter-strategy", text("at-least-once")),
        ("x-overflow", text("reject-publish")),
    ])
}

fn limit(deliveries: u32) -> AMQPValue {
    AMQPValue::LongInt(i32::try_from(deliveries).unwrap_or(UNLIMITED))
}

fn text(value: impl Into<Vec<u8>>) -> AMQPValue {
    AMQPValue::LongString(value.into().into())
}

fn table<const N: usize>(arguments: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in arguments {
        table.insert(name.into(), value);
    }
    table
}

/// A channel for declarations. The server closes it after the first error.
struct Declaring {
    channel: Channel,
    create: bool,
}

impl Declaring {
    async fn new(connection: &Connection, topic: &Topic) -> Result<Self, SetupError> {
        let opened = connection.create_channel().await;
        let failed = |source| SetupError::Server { doing: "open a channel".to_owned(), source };
        Ok(Self { channel: opened.map_err(failed)?, create: topic.create })
    }

    async fn exchange(
        &self,
        name: &str,
        kind: ExchangeKind,
        arguments: FieldTable,
    ) -> Result<(), SetupError> {
        let options = ExchangeDeclareOptions {
            durable: true,
            passive: !self.create,
            ..ExchangeDeclareOptions::default()
        };
        let declared = self.channel.exchange_declare(name.into(), kind, options, arguments).await;
        declared.map_err(|error| failed("exchange", name, error))
    }

    async fn queue(&self, name: &str, arguments: FieldTable) -> Result<(), SetupError> {
        let options = QueueDeclareOptions {
            durable: true,
            passive: !self.create,
            ..QueueDeclareOptions::default()
        };
        let declared = self.channel.queue_declare(name.into(), options, arguments).await;
        declared.map(drop).map_err(|error| failed("queue", name, error))
    }

    async fn bind(&self, queue: &str, exchange: &str, key: &str) -> Result<(), SetupError> {
        let (options, arguments) = (QueueBindOptions::default(), FieldTable::default());
        let (to, from) = (queue.into(), exchange.into());
        let bound = self.channel.queue_bind(to, from, key.into(), options, arguments).await;
        let doing = || format!("bind the queue `{queue}` to `{exchange}`");
        bound.map_err(|source| SetupError::Server { doing: doing(), source })
    }
}

fn failed(what: &str, name: &str, error: lapin::Error) -> SetupError {
    if code(&error) == Some(NOT_FOUND) {
        return SetupError::Missing { name: name.to_owned() };
    }
    match Mismatch::read(&error.to_string()) {
        Some(Mismatch { argument, wanted, found }) => {
            SetupError::Mismatch { argument, wanted, found, of: name.to_owned() }
        }
        None => SetupError::Server { doing: format!("declare the {what} `{name}`"), source: error },
    }
}
