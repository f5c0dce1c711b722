//! Quorum queues of RabbitMQ.

use std::time::{Duration, Instant};

use buttress_amqp::lapin::options::{
    BasicAckOptions, BasicConsumeOptions, BasicPublishOptions, BasicQosOptions,
    ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions, QueueBindOptions,
    QueueDeclareOptions, QueueDeleteOptions,
};
use buttress_amqp::lapin::types::{AMQPValue, FieldTable};
use buttress_amqp::lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ExchangeKind,
};
use buttress_amqp::{Publish, Rabbit, Subscribe, Subscription, Topic};
use buttress_durable::outbox::{Message, NewMessage};
use futures_util::stream::{StreamExt as _, select_all};

use crate::bench::{
    Error, IN_FLIGHT, MESSAGES, Rates, Row, all, consume, key, new_message, payload, publish, rate,
    relay,
};
use crate::report::Target;
use crate::take_over;

const ADDRESS: &str = "amqp://127.0.0.1:5672";
const RAW: &str = "bench-raw";
const OURS: &str = "bench-ours";
const TAKE_OVER: &str = "bench-take-over";
const SHARDS: [u16; 2] = [1, 8];

pub async fn measure(rounds: usize) -> Result<Vec<Row>, Error> {
    let connection = match Connection::connect(ADDRESS, ConnectionProperties::default()).await {
        Ok(connection) => connection,
        Err(error) => {
            println!("left out: RabbitMQ: {error}");
            return Ok(Vec::new());
        }
    };
    let rabbit = Rabbit::new(ADDRESS)?;
    let mut rows = Vec::new();
    for shards in SHARDS {
        let topic = Topic::new(OURS).shards(shards);
        let mut rates = Rates::default();
        for _ in 0..rounds {
            clear(&connection).await?;
            declare_raw(&connection, shards).await?;
            rates.raw_out.push(publish_raw(&connection, shards).await?);
            rates.raw_in.push(consume_raw(&connection, shards).await?);
            clear(&connection).await?;
            let member = Subscribe::new("bench").prefetch(prefetch(shards));
            let source = rabbit.subscribe(&topic, member).await?;
            let publisher = rabbit.publisher(&topic, Publish::new()).await?;
            rates.ours_out.push(publish(&publisher).await?);
            rates.ours_in.push(consume(source).await?);
            // The queues are empty. No member of the group consumes what the relay publishes.
            rates.ours_relayed.push(relay(&publisher).await?);
        }
        let broker = format!("RabbitMQ, {shards} shards").replace("1 shards", "1 shard");
        rows.extend(rates.rows(&broker, 0.9));
    }
    clear(&connection).await?;
    Ok(rows)
}

/// The source of the consumer that is killed, and of the one that takes over.
async fn member() -> Result<Subscription, Error> {
    let topic = Topic::new(TAKE_OVER).shards(1);
    Ok(Rabbit::new(ADDRESS)?.subscribe(&topic, Subscribe::new("bench")).await?)
}

/// Holds a message until this process is killed.
pub async fn hold() -> Result<(), Error> {
    take_over::hold(member().await?).await
}

pub async fn take_over() -> Result<Option<Target>, Error> {
    let connecting = Connection::connect(ADDRESS, ConnectionProperties::default()).await;
    let Ok(connection) = connecting else { return Ok(None) };
    clear(&connection).await?;
    // The group is there before its message.
    drop(member().await?);
    let topic = Topic::new(TAKE_OVER).shards(1);
    let publisher = Rabbit::new(ADDRESS)?.publisher(&topic, Publish::new()).await?;
    let publish = async {
        publisher.publish(Message::new(new_message(0), 0, 0, Duration::ZERO)).await?;
        Ok(())
    };
    // The server has no lease: it sees the end of the connection.
    let target =
        take_over::measure("rabbitmq", Duration::ZERO, Duration::ZERO, publish, member()).await?;
    clear(&connection).await?;
    Ok(Some(target))
}

/// Removes the exchanges and the queues of every measurement.
async fn clear(connection: &Connection) -> Result<(), Error> {
    let channel = connection.create_channel().await?;
    for topic in [RAW, OURS, TAKE_OVER] {
        let lasts = (0..8).map(|shard| shard.to_string());
        for last in lasts.chain(["dead", "retry"].map(str::to_owned)) {
            let queue = format!("{topic}.bench.{last}");
            channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default()).await?;
        }
        for last in ["", ".shards", ".dead", ".retry"] {
            let exchange = format!("{topic}{last}");
            let options = ExchangeDeleteOptions::default();
            channel.exchange_delete(exchange.as_str().into(), options).await?;
        }
    }
    Ok(())
}

fn queue(shard: u16) -> String {
    format!("{RAW}.bench.{shard}")
}

/// Declares as many quorum queues as ours has, bound to a topic exchange.
async fn declare_raw(connection: &Connection, shards: u16) -> Result<(), Error> {
    let channel = connection.create_channel().await?;
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (kind, none) = (ExchangeKind::Topic, FieldTable::default());
    channel.exchange_declare(RAW.into(), kind, options, none).await?;
    for shard in 0..shards {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        let queue = queue(shard);
        channel.queue_declare(queue.as_str().into(), options, arguments).await?;
        let (options, none) = (QueueBindOptions::default(), FieldTable::default());
        let key = shard.to_string();
        channel
            .queue_bind(queue.as_str().into(), RAW.into(), key.as_str().into(), options, none)
            .await?;
    }
    Ok(())
}

/// Publishes with the same headers as ours, and waits for each confirmation.
async fn publish_raw(connection: &Connection, shards: u16) -> Result<f64, Error> {
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let begun = Instant::now();
    let calls = (0..MESSAGES).map(|number| send_raw(&channel, shards, number));
    all(calls).await?;
    Ok(rate(begun))
}

async fn send_raw(channel: &Channel, shards: u16, number: usize) -> Result<(), Error> {
    let mut headers = FieldTable::default();
    headers
        .insert("buttress-key".into(), AMQPValue::LongString(key(number).into()))
        .insert("buttress-topic".into(), AMQPValue::LongString("order.paid".into()));
    let properties = BasicProperties::default()
        .with_message_id(format!("{number:036}").as_str().into())
        .with_delivery_mode(2)
        .with_headers(headers);
    let shard = NewMessage::partition(&key(number), shards).to_string();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let payload = payload();
    let sent =
        channel.basic_publish(RAW.into(), shard.as_str().into(), options, &payload, properties);
    match sent.await?.await? {
        Confirmation::Ack(None) => Ok(()),
        other => Err(format!("not confirmed: {other:?}").into()),
    }
}

/// Returns an equal part of 256 messages.
const fn prefetch(shards: u16) -> u16 {
    (IN_FLIGHT as u16).div_ceil(shards)
}

/// Consumes each queue with an equal part of 256 messages in advance, and acknowledges each message.
async fn consume_raw(connection: &Connection, shards: u16) -> Result<f64, Error> {
    let begun = Instant::now();
    let channel = connection.create_channel().await?;
    channel.basic_qos(prefetch(shards), BasicQosOptions::default()).await?;
    let mut consumers = Vec::new();
    for shard in 0..shards {
        let (options, none) = (BasicConsumeOptions::default(), FieldTable::default());
        let name = queue(shard);
        consumers
            .push(channel.basic_consume(name.as_str().into(), "".into(), options, none).await?);
    }
    let mut deliveries = select_all(consumers);
    for _ in 0..MESSAGES {
        let delivery = deliveries.next().await.ok_or("the channel was closed")??;
        channel.basic_ack(delivery.delivery_tag, BasicAckOptions::default()).await?;
    }
    let rate = rate(begun);
    channel.close(200, "".into()).await?;
    Ok(rate)
}
