//! JetStream of NATS.

use std::time::{Duration, Instant};

use buttress_durable::outbox::Message;
use buttress_nats::async_nats::jetstream::consumer::{AckPolicy, PullConsumer, pull};
use buttress_nats::async_nats::jetstream::context::Context;
use buttress_nats::async_nats::jetstream::message::PublishMessage;
use buttress_nats::async_nats::jetstream::{self, stream::Config};
use buttress_nats::async_nats::{ConnectOptions, HeaderMap};
use buttress_nats::{Nats, Publish, Subscribe, Subscription, Topic};
use futures_util::stream::StreamExt as _;

use crate::bench::{
    Error, IN_FLIGHT, MESSAGES, Rates, Row, all, consume, key, new_message, payload, publish, rate,
    relay,
};
use crate::report::Target;
use crate::take_over::{self, LEASE};

const ADDRESS: &str = "127.0.0.1:4222";
const RAW: &str = "bench-raw";
const OURS: &str = "bench-ours";

pub async fn measure(rounds: usize) -> Result<Vec<Row>, Error> {
    let nats = match Nats::connect(ADDRESS, ConnectOptions::new()).await {
        Ok(nats) => nats,
        Err(error) => {
            println!("left out: NATS: {error}");
            return Ok(Vec::new());
        }
    };
    let jetstream = jetstream::new(nats.client());
    let mut rows = Vec::new();
    for shards in [1, 8] {
        let topic = Topic::new(OURS).shards(shards);
        let mut rates = Rates::default();
        for _ in 0..rounds {
            clear(&jetstream).await;
            let config = Config { name: RAW.to_owned(), ..Config::default() };
            let consumer =
                jetstream.create_stream(config).await?.create_consumer(durable()).await?;
            rates.raw_out.push(publish_raw(&jetstream).await?);
            rates.raw_in.push(consume_raw(&consumer).await?);
            clear(&jetstream).await;
            let publisher = nats.publisher(&topic, Publish::new()).await?;
            let source = nats.subscribe(&topic, Subscribe::new("bench")).await?;
            rates.ours_out.push(publish(&publisher).await?);
            rates.ours_in.push(consume(source).await?);
            clear(&jetstream).await;
            let publisher = nats.publisher(&topic, Publish::new()).await?;
            rates.ours_relayed.push(relay(&publisher).await?);
        }
        let broker = format!("NATS, {shards} shards").replace("1 shards", "1 shard");
        rows.extend(rates.rows(&broker, 0.7));
    }
    clear(&jetstream).await;
    Ok(rows)
}

const TAKE_OVER: &str = "bench-take-over";

/// The source of the consumer that is killed, and of the one that takes over.
async fn member(nats: &Nats) -> Result<Subscription, Error> {
    let topic = Topic::new(TAKE_OVER).shards(1);
    Ok(nats.subscribe(&topic, Subscribe::new("bench").lease(LEASE)).await?)
}

/// Holds a message until this process is killed.
pub async fn hold() -> Result<(), Error> {
    take_over::hold(member(&Nats::connect(ADDRESS, ConnectOptions::new()).await?).await?).await
}

pub async fn take_over() -> Result<Option<Target>, Error> {
    let Ok(nats) = Nats::connect(ADDRESS, ConnectOptions::new()).await else { return Ok(None) };
    let jetstream = jetstream::new(nats.client());
    clear(&jetstream).await;
    let publisher = nats.publisher(&Topic::new(TAKE_OVER).shards(1), Publish::new()).await?;
    let publish = async {
        publisher.publish(Message::new(new_message(0), 0, 0, Duration::ZERO)).await?;
        Ok(())
    };
    let target = take_over::measure("nats", LEASE, Duration::ZERO, publish, member(&nats)).await?;
    clear(&jetstream).await;
    Ok(Some(target))
}

fn durable() -> pull::Config {
    pull::Config {
        durable_name: Some("bench".to_owned()),
        ack_policy: AckPolicy::Explicit,
        max_ack_pending: 20_000,
        ..pull::Config::default()
    }
}

async fn clear(jetstream: &Context) {
    for topic in [RAW, OURS, TAKE_OVER] {
        for stream in [topic.to_owned(), format!("{topic}-groups")] {
            let _missing = jetstream.delete_stream(stream).await;
        }
    }
}

/// Publishes with the same headers as ours, and waits for each confirmation.
async fn publish_raw(jetstream: &Context) -> Result<f64, Error> {
    let begun = Instant::now();
    let calls = (0..MESSAGES).map(|number| async move {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Expected-Stream", RAW);
        headers.insert("buttress-key", key(number));
        headers.insert("buttress-topic", "order.paid");
        let message = PublishMessage::build().payload(payload().into()).headers(headers);
        let message = message.message_id(format!("{number:036}"));
        jetstream.send_publish(RAW, message).await?.await?;
        Ok(())
    });
    all(calls).await?;
    Ok(rate(begun))
}

/// Pulls batches of 256 messages, and acknowledges each message.
async fn consume_raw(consumer: &PullConsumer) -> Result<f64, Error> {
    let begun = Instant::now();
    let mut handled = 0;
    while handled < MESSAGES {
        let batch = consumer.batch().max_messages(IN_FLIGHT).expires(Duration::from_secs(5));
        let mut messages = batch.messages().await?;
        while let Some(message) = messages.next().await {
            message?.ack().await?;
            handled += 1;
        }
    }
    Ok(rate(begun))
}
