//! Messages that end the process, and messages that RabbitMQ does not deliver any more.

use std::time::Duration;

use buttress_amqp::Subscribe;
use buttress_durable::consume::{Reason, Settle, Source as _};
use buttress_sim::conformance::source::{Group, Transport as _};

use crate::world::{billing, message, publish, take, until, world};

#[tokio::test]
async fn events_2_5_a_message_whose_deliveries_all_end_the_process_is_poison() {
    let Some(world) = billing("poison", 1).await else { return };
    publish(&world.publisher(), message("a", "bad")).await;
    for redeliveries in 0..3 {
        let source = world.member("billing").await;
        source.want(1);
        let held = take(&source, 1).await;
        assert_eq!(held[0].redeliveries, Some(redeliveries), "the queue counts");
        drop(source);
    }
    let group = Group::new("billing", world.clock());
    let config = group.config().max_redeliveries(3);
    let member = group.consumer(&world, config, async |_| Ok(())).await;
    publish(&world.publisher(), message("a", "good")).await;
    until("the good one is handled", || member.stats().handled == 1).await;
    let dead = group.dead().await;
    assert_eq!((dead.len(), dead[0].reason, &*dead[0].payload), (1, Reason::Poison, &b"bad"[..]));
    assert_eq!(group.payloads(), ["good"], "the bad one was not handled");
    member.shut_down().await;
    world.end().await;
}

#[tokio::test]
async fn events_3_a_message_beyond_the_delivery_limit_is_kept_and_comes_back() {
    let Some(world) = world("the delivery limit", 2).await else { return };
    world.begin("first").await;
    let settings =
        || Subscribe::new("limited").delivery_limit(1).retry_after(Duration::from_millis(50));
    let topic = world.topic();
    let subscribe = async || world.rabbit.subscribe(&topic, settings()).await.unwrap();
    drop(subscribe().await);
    let sent = message("a", "1");
    publish(&world.publisher(), sent.clone()).await;
    let dead = world.rabbit.dead(&topic, "limited").unwrap();
    assert_eq!(dead.retry(10).await.unwrap(), 0, "nothing is dead");
    for _ in 0..2 {
        let source = subscribe().await;
        source.want(1);
        take(&source, 1).await;
        drop(source);
    }
    let clock = world.clock();
    let begun = clock.now();
    while dead.count().await.unwrap() == 0 {
        assert!(clock.now() - begun < Duration::from_secs(60), "RabbitMQ gives the message up");
        clock.sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(dead.retry(10).await.unwrap(), 1);
    assert_eq!(dead.count().await.unwrap(), 0);
    let source = subscribe().await;
    source.want(1);
    let back = take(&source, 1).await;
    assert_eq!((&*back[0].payload, &*back[0].key, back[0].redeliveries), (&b"1"[..], "a", Some(0)));
    assert!(
        back[0].headers.iter().all(|(name, _)| !name.starts_with("x-")),
        "{:?}",
        back[0].headers
    );
    source.settle(&[(back[0].token, Settle::Done)]).await.unwrap();
    source.close().await.unwrap();
    world.remove("limited").await;
    world.end().await;
}
