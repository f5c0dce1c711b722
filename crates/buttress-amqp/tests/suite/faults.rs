//! Connections that are cut, servers that are killed, members that are gone, handlers that take long.

use std::time::Duration;

use buttress::Clock;
use buttress_durable::consume::{Answer, Place, Settle, Shard, Source as _};
use buttress_sim::conformance::source::{Group, Transport as _};

use crate::server::{self, Server};
use crate::world::{
    World, billing, in_order, is_published, message, publish, receive, take, until, world,
};

const SECOND: Duration = Duration::from_secs(1);

async fn takes_a_moment() -> Result<(), tower::BoxError> {
    Clock::default().sleep(Duration::from_millis(1)).await;
    Ok(())
}

#[tokio::test]
async fn events_2_3_connections_are_cut_at_random() {
    let Some(direct) = world("connections that are cut", 4).await else { return };
    let (proxy, through) = server::proxy(&direct.url);
    let mut world = World::new(through, direct.url.clone(), 4);
    // A message whose confirmation is lost is soon published again.
    world.limit = 2 * SECOND;
    world.begin("billing").await;
    let group = Group::new("billing", world.clock());
    let config = || group.config().max_redeliveries(1000);
    let mut members = Vec::new();
    for _ in 0..2 {
        members.push(group.consumer(&world, config(), async |_| takes_a_moment().await).await);
    }
    let publisher = world.publisher();
    for number in 0..60 {
        for key in ["a", "b", "c", "d", "e"] {
            publish(&publisher, message(key, number.to_string())).await;
        }
        if number % 10 == 5 {
            proxy.cut();
        }
    }
    until("every message is handled", || in_order(&group.seen()) == 300).await;
    let failed: u64 = members.iter().map(|member| member.stats().failed_operations).sum();
    assert!(failed > 0, "the cuts were noticed");
    until("all are settled", || members.iter().all(|member| member.stats().held == 0)).await;
    for member in members {
        member.shut_down().await;
    }
    world.end().await;
}

#[tokio::test]
async fn events_2_1_the_server_is_killed_and_restarted() {
    for _ in 0..5 {
        if is_killed_and_restarted().await {
            return;
        }
        // RabbitMQ 3.10 logs "leader not known" for such a queue until it is restarted.
        println!("after the kill RabbitMQ had a quorum queue without a leader: once more");
    }
    panic!("five servers did not take messages any more after a kill");
}

/// Returns `false` if the server did not serve its queues again.
async fn is_killed_and_restarted() -> bool {
    let Some(mut own) = Server::start("a server that is killed", "").await else { return true };
    let mut world = World::new(server::at(&own.url()), own.url(), 2);
    world.limit = 2 * SECOND;
    world.begin("billing").await;
    // RabbitMQ 3.10 writes what it knows of a new quorum queue some seconds later: a kill before that leaves a queue that
    // never has a leader again.
    own.stop();
    own.restart().await;
    let group = Group::new("billing", world.clock());
    let config = group.config().max_redeliveries(1000);
    let member = group.consumer(&world, config, async |_| takes_a_moment().await).await;
    let publisher = world.publisher();
    for number in 0..60 {
        for key in ["a", "b"] {
            if !is_published(&publisher, message(key, number.to_string())).await {
                return false;
            }
        }
        if number == 30 {
            own.kill();
            own.restart().await;
        }
    }
    until("every message is handled", || in_order(&group.seen()) == 120).await;
    until("all are settled", || member.stats().held == 0).await;
    assert!(member.stats().failed_operations > 0, "the outage was noticed");
    member.shut_down().await;
    true
}

#[tokio::test]
async fn an_outage_is_one_error_and_ends_with_an_answer() {
    let Some(direct) = world("an outage", 1).await else { return };
    let (proxy, through) = server::proxy(&direct.url);
    direct.begin("billing").await;
    let settings = buttress_amqp::Subscribe::new("billing");
    let source = through.subscribe(&direct.topic(), settings).await.unwrap();
    source.want(10);
    publish(&direct.publisher(), message("a", "1")).await;
    let first = take(&source, 1).await;
    assert_eq!(first[0].redeliveries, Some(0));
    proxy.refuse(true);
    proxy.cut();
    let error = receive(&source).await.unwrap_err();
    assert!(error.is_transient(), "{error}");
    let late = source.settle(&[(first[0].token, Settle::Done)]).await.unwrap();
    assert_eq!(late, [Answer::Late], "the channel is gone, and its tags with it");
    {
        // The error is not reported to the consumer again: the answer comes with the server.
        let mut waiting = std::pin::pin!(source.receive());
        tokio::select! {
            answer = &mut waiting => panic!("{answer:?}"),
            () = Clock::default().sleep(SECOND) => {}
        }
        proxy.refuse(false);
        let mut answer = waiting.await.unwrap();
        assert_eq!(answer.revoked, [Shard(0)]);
        while answer.messages.is_empty() {
            answer = receive(&source).await.unwrap();
        }
        let again = &answer.messages[0];
        assert_eq!((&again.place, again.redeliveries), (&first[0].place, Some(1)));
    }
    source.close().await.unwrap();
    direct.end().await;
}

#[tokio::test]
async fn events_2_3_a_successor_begins_with_what_was_not_settled() {
    let Some(mut world) = world("a successor", 1).await else { return };
    world.begin("billing").await;
    // The last two messages are not delivered to the first member.
    world.prefetch = Some(6);
    let first = world.member("billing").await;
    world.prefetch = None;
    let second = world.member("billing").await;
    let publisher = world.publisher();
    first.want(6);
    for number in 0..8 {
        publish(&publisher, message("a", number.to_string())).await;
    }
    let held = take(&first, 6).await;
    second.want(100);
    {
        // One member at a time, also after a returned delivery.
        let done = [(held[1].token, Settle::Done), (held[5].token, Settle::Back)];
        assert_eq!(first.settle(&done).await.unwrap(), [Answer::Taken; 2]);
        tokio::select! {
            early = second.receive() => panic!("{early:?}"),
            () = Clock::default().sleep(SECOND / 2) => {}
        }
    }
    // Without a word, as a process that is killed.
    drop(first);
    let (clock, begun) = (Clock::default(), Clock::default().now());
    let taken = take(&second, 7).await;
    let took = clock.now() - begun;
    // A server that notices the loss only by missing heartbeats, one each 10 seconds, needs longer.
    assert!(took < 9 * SECOND, "{took:?}");
    let payloads: Vec<_> =
        taken.iter().map(|message| String::from_utf8_lossy(&message.payload)).collect();
    assert_eq!(payloads, ["0", "2", "3", "4", "5", "6", "7"]);
    assert_eq!((taken[0].redeliveries, taken[6].redeliveries), (Some(1), Some(0)));
    let all: Vec<_> = taken.iter().map(|message| (message.token, Settle::Done)).collect();
    assert_eq!(second.settle(&all).await.unwrap(), [Answer::Taken; 7]);
    assert_eq!(second.settle(&all).await.unwrap(), [Answer::Taken; 7], "again, without effect");
    second.close().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn events_2_9_a_handler_that_takes_six_seconds_runs_once() {
    let Some(world) = billing("a long handler", 1).await else { return };
    let group = Group::new("billing", world.clock());
    let mut members = Vec::new();
    for _ in 0..2 {
        let slow = async |_| {
            Clock::default().sleep(6 * SECOND).await;
            Ok(())
        };
        members.push(group.consumer(&world, group.config(), slow).await);
    }
    publish(&world.publisher(), message("a", "0")).await;
    publish(&world.publisher(), message("a", "1")).await;
    let handled = || members.iter().map(|member| member.stats().handled).sum::<u64>();
    until("both are handled", || handled() == 2).await;
    assert_eq!(group.payloads(), ["0", "1"]);
    for member in members {
        member.shut_down().await;
    }
    world.end().await;
}

#[tokio::test]
async fn events_3_a_queue_that_was_deleted_is_declared_again() {
    let Some(world) = billing("a deleted queue", 1).await else { return };
    let source = world.member("billing").await;
    source.want(10);
    publish(&world.publisher(), message("a", "1")).await;
    take(&source, 1).await;
    let (_connection, channel) = world.channel().await;
    let queue = format!("{}.billing.0", world.name());
    channel.queue_delete(queue.as_str().into(), Default::default()).await.unwrap();
    let error = receive(&source).await.unwrap_err();
    assert!(error.is_transient() && error.to_string().contains(&queue), "{error}");
    assert_eq!(receive(&source).await.unwrap().revoked, [Shard(0)]);
    publish(&world.publisher(), message("a", "2")).await;
    assert_eq!(take(&source, 1).await[0].payload, b"2");
    source.close().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn events_3_a_message_that_was_published_twice_holds_no_delivery_for_ever() {
    let Some(mut world) = world("a message that was published twice", 1).await else { return };
    world.prefetch = Some(2);
    world.begin("billing").await;
    let source = world.member("billing").await;
    source.want(10);
    let twice = message("a", "1");
    publish(&world.publisher(), twice.clone()).await;
    publish(&world.publisher(), twice.clone()).await;
    let both = take(&source, 2).await;
    assert_eq!(both[0].place, Some(Place::Text(twice.id.to_string().into())));
    assert_ne!(both[0].place, both[1].place);
    let done: Vec<_> = both.iter().map(|message| (message.token, Settle::Done)).collect();
    source.settle(&done).await.unwrap();
    // Both deliveries of the window are free.
    for payload in ["2", "3"] {
        publish(&world.publisher(), message("a", payload)).await;
    }
    assert_eq!(take(&source, 2).await[1].payload, b"3");
    source.close().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn events_2_13_no_more_than_the_window_is_delivered() {
    let Some(mut world) = world("a bounded window", 2).await else { return };
    world.prefetch = Some(5);
    world.begin("billing").await;
    publish_keys(&world, 200).await;
    let source = world.member("billing").await;
    source.want(10);
    let held = receive(&source).await.unwrap().messages;
    assert!(!held.is_empty() && held.len() <= 10, "{}", held.len());
    // What was delivered is not ready any more.
    let ready = ready(&world).await;
    assert!(ready >= 190, "{ready} of 200 are still in the queues");
    source.close().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn events_2_3_the_window_does_not_depend_on_the_consumer() {
    let Some(world) = billing("a window of every member", 2).await else { return };
    publish_keys(&world, 200).await;
    let source = world.member("billing").await;
    source.want(4);
    take(&source, 4).await;
    // A member that is lost returns what it has. A successor with a smaller window would take a part of that.
    let clock = Clock::default();
    let ends = clock.now() + Duration::from_secs(60);
    let mut left = ready(&world).await;
    while left != 200 - 2 * 64 {
        assert!(clock.now() < ends, "{left} of 200 are in the queues");
        left = ready(&world).await;
    }
    source.close().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn events_2_3_a_small_consumer_has_a_small_window() {
    let Some(world) = billing("a window of a small consumer", 2).await else { return };
    publish_keys(&world, 50).await;
    let source = world.member("billing").await;
    source.announce_capacity(4);
    source.want(4);
    let mut held = 0;
    while held < 4 {
        held += receive(&source).await.unwrap().messages.len();
    }
    assert_eq!(ready(&world).await, 46, "no message waits in the member for a handler");
    source.close().await.unwrap();
    world.end().await;
}

/// Publishes a message of each of `count` keys.
async fn publish_keys(world: &World, count: usize) {
    for number in 0..count {
        publish(&world.publisher(), message(&format!("key-{number}"), "1")).await;
    }
}

/// Returns how many messages wait in the shards of the group.
async fn ready(world: &World) -> u32 {
    let (_connection, channel) = world.channel().await;
    let mut ready = 0;
    for shard in 0..world.shards {
        let queue = format!("{}.billing.{shard}", world.name());
        let options = buttress_amqp::lapin::options::QueueDeclareOptions {
            passive: true,
            ..Default::default()
        };
        let found = channel.queue_declare(queue.as_str().into(), options, Default::default());
        ready += found.await.unwrap().message_count();
    }
    ready
}
