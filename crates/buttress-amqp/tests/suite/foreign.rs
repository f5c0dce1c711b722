//! Messages of publishers that are not ours.

use std::collections::BTreeSet;

use buttress_amqp::lapin::options::BasicPublishOptions;
use buttress_amqp::lapin::types::{AMQPValue, FieldTable};
use buttress_amqp::lapin::{BasicProperties, Connection, ConnectionProperties};
use buttress_durable::consume::{Settle, Source as _};
use buttress_sim::conformance::source::{Group, Transport as _};

use crate::world::{World, billing, take, until};

/// Publishes to a shard, as another program does.
async fn send(world: &World, url: &str, shard: u16, sent: Vec<(BasicProperties, String)>) {
    let connecting = Connection::connect(url, ConnectionProperties::default());
    let channel = connecting.await.unwrap().create_channel().await.unwrap();
    channel.confirm_select(Default::default()).await.unwrap();
    let mut confirmations = Vec::new();
    for (properties, payload) in sent {
        let (exchange, key) = (world.name(), shard.to_string());
        let sending = channel.basic_publish(
            exchange.as_str().into(),
            key.as_str().into(),
            BasicPublishOptions::default(),
            payload.as_bytes(),
            properties,
        );
        confirmations.push(sending.await.unwrap());
    }
    for confirmation in confirmations {
        assert!(confirmation.await.unwrap().is_ack());
    }
}

#[tokio::test]
async fn messages_that_share_an_id_are_all_handled() {
    let Some(world) = billing("messages that share an id", 1).await else { return };
    let group = Group::new("billing", world.clock());
    let member = group.consumer(&world, group.config(), async |_| Ok(())).await;
    let same = || BasicProperties::default().with_message_id("order-7".into());
    let sent = (0..2000).map(|number| (same(), number.to_string())).collect();
    send(&world, &world.url, 0, sent).await;
    until("all have ended", || {
        let stats = member.stats();
        stats.held == 0 && stats.handled + stats.joined >= 2000
    })
    .await;
    let seen: BTreeSet<_> = group.payloads().into_iter().collect();
    assert_eq!((seen.len(), member.stats().joined), (2000, 0));
    member.shut_down().await;
    world.end().await;
}

#[tokio::test]
async fn a_count_of_another_publisher_makes_no_dead_letter() {
    let Some(world) = billing("a foreign delivery count", 1).await else { return };
    let counted = |value| {
        let mut headers = FieldTable::default();
        headers.insert("x-delivery-count".into(), value);
        BasicProperties::default().with_headers(headers)
    };
    let values = [AMQPValue::LongInt(25), AMQPValue::LongString("abc".into())];
    let sent = values.map(|value| (counted(value), "1".to_owned())).into();
    send(&world, &world.url, 0, sent).await;
    for redeliveries in [Some(0), Some(1)] {
        let source = world.member("billing").await;
        source.want(10);
        let held = take(&source, 2).await;
        let counts: Vec<_> = held.iter().map(|message| message.redeliveries).collect();
        assert_eq!(counts, [redeliveries; 2], "only the queue counts");
        if redeliveries == Some(1) {
            let done: Vec<_> = held.iter().map(|it| (it.token, Settle::Done)).collect();
            source.settle(&done).await.unwrap();
            source.close().await.unwrap();
        }
    }
    world.end().await;
}
