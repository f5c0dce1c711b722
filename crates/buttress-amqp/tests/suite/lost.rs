//! Confirmations that never come, and connections that the server closes.

use std::time::Duration;

use buttress_amqp::{Publish, PublishError};
use buttress_sim::conformance::source::{Group, Transport as _};

use crate::server;
use crate::wire::Wire;
use crate::world::{World, billing, in_order, message, publish, until, world};

#[tokio::test]
async fn events_2_15_confirmations_that_never_come_stop_no_later_message() {
    let Some(world) = billing("lost confirmations", 1).await else { return };
    let wire = Wire::to(&world.url);
    let limit = Publish::new().limit(Duration::from_millis(500));
    let publisher = wire.rabbit().publisher(&world.topic(), limit).await.unwrap();
    publish(&publisher, message("a", "first")).await;
    wire.swallow_confirmations(true);
    let mut calls = Vec::new();
    for number in 0..1500 {
        let (publisher, sent) = (publisher.clone(), message("a", number.to_string()));
        calls.push(tokio::spawn(async move { publisher.publish(sent).await }));
    }
    let mut unconfirmed = 0;
    for call in calls {
        match call.await.unwrap() {
            Err(PublishError::Unconfirmed { .. }) => unconfirmed += 1,
            Err(PublishError::Disconnected { .. }) => {}
            other => panic!("{other:?}"),
        }
    }
    assert!(unconfirmed >= 1024, "fewer than are published at a time: {unconfirmed}");
    wire.swallow_confirmations(false);
    // As a relay does.
    publish(&publisher, message("a", "last")).await;
    world.end().await;
}

/// More threads than cores: the task of a publisher often stands still after it has sent a message, and then finds the
/// confirmation at its first look.
#[tokio::test(flavor = "multi_thread", worker_threads = 12)]
async fn events_2_15_a_confirmation_that_comes_at_once_is_seen() {
    let Some(world) = billing("immediate confirmations", 1).await else { return };
    let mut publishers = tokio::task::JoinSet::new();
    for key in 0..12 {
        let through = server::at(&world.url);
        let publisher = through.publisher(&world.topic(), Publish::new()).await.unwrap();
        publishers.spawn(async move {
            // One after the other: no other message makes the publisher look again.
            for number in 0..400 {
                let sent = message(&key.to_string(), number.to_string());
                publisher.publish(sent).await.unwrap();
            }
        });
    }
    publishers.join_all().await;
    world.end().await;
}

/// `connection.close` with 320, as the frame of an operator who closes a connection.
const CLOSED: &[u8] = b"\x01\0\0\0\0\0\x0f\0\x0a\0\x32\x01\x40\x04shut\0\0\0\0\xce";

#[tokio::test]
async fn events_2_3_a_connection_that_the_server_closes_is_opened_again() {
    let Some(direct) = world("a connection that the server closes", 2).await else { return };
    let wire = Wire::to(&direct.url);
    let mut world = World::new(wire.rabbit(), direct.url.clone(), 2);
    world.limit = Duration::from_secs(2);
    world.begin("billing").await;
    let group = Group::new("billing", world.clock());
    let member =
        group.consumer(&world, group.config().max_redeliveries(1000), async |_| Ok(())).await;
    let publisher = world.publisher();
    for number in 0..40 {
        for key in ["a", "b"] {
            publish(&publisher, message(key, number.to_string())).await;
        }
        if number % 10 == 5 {
            wire.tell(CLOSED);
        }
    }
    until("every message is handled", || in_order(&group.seen()) == 80).await;
    until("all are settled", || member.stats().held == 0).await;
    member.shut_down().await;
    world.end().await;
}
