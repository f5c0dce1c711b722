//! The publisher of a relay.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use buttress::{Classify as _, Clock, Outcome};
use buttress_amqp::{Publish, PublishError, PublishErrors, Rabbit, SetupError};
use buttress_durable::consume::{Settle, Source as _};
use buttress_durable::outbox::NewMessage;

use crate::server::{self, Server};
use crate::wire::{BLOCKED, UNBLOCKED, Wire};
use crate::world::{World, billing, message, publish, receive, world};

fn classified(error: PublishError) -> Outcome {
    PublishErrors.classify(&Err::<(), _>(error))
}

#[tokio::test]
async fn events_2_15_of_many_concurrent_messages_exactly_those_without_a_queue_are_errors() {
    let Some(world) = billing("messages without a queue", 4).await else { return };
    let (_connection, channel) = world.channel().await;
    let missing = format!("{}.billing.2", world.name());
    channel.queue_delete(missing.as_str().into(), Default::default()).await.unwrap();
    let publisher = world.publisher();
    let (mut calls, mut unrouted, mut stored) = (Vec::new(), 0, BTreeSet::new());
    for number in 0..800 {
        let (publisher, key) = (publisher.clone(), format!("key-{number}"));
        let shard = NewMessage::partition(&key, 4);
        let sent = message(&key, number.to_string());
        calls.push(tokio::spawn(async move { (shard, number, publisher.publish(sent).await) }));
    }
    for call in calls {
        match call.await.unwrap() {
            (2, _, Err(PublishError::Unrouted { shard: 2, exchange })) => {
                assert_eq!(exchange, world.name());
                unrouted += 1;
            }
            (2, number, other) => panic!("{number} reached no queue: {other:?}"),
            (_, number, Ok(())) => {
                stored.insert(number.to_string());
            }
            // The client cannot distinguish its confirmation from another one: a relay sends it again.
            (_, _, Err(PublishError::Unconfirmed { .. })) => {}
            (_, number, other) => panic!("{number}: {other:?}"),
        }
    }
    println!("{unrouted} unrouted, {} confirmed of 800", stored.len());
    assert!(unrouted > 100 && stored.len() > 100);
    // The queue is declared again by the member.
    let source = world.member("billing").await;
    let mut found = BTreeSet::new();
    while !stored.is_subset(&found) {
        source.want(1000);
        let batch = receive(&source).await.unwrap();
        let done: Vec<_> = batch.messages.iter().map(|read| (read.token, Settle::Done)).collect();
        source.settle(&done).await.unwrap();
        let payloads = batch.messages.iter().map(|read| String::from_utf8_lossy(&read.payload));
        found.extend(payloads.map(|payload| payload.into_owned()));
    }
    source.close().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn events_2_15_a_topic_without_a_group_or_an_exchange_is_an_error_that_names_it() {
    let Some(world) = billing("a missing exchange", 4).await else { return };
    let publisher = world.publisher();
    publisher.publish(message("a", "1")).await.unwrap();
    world.end().await;
    // The exchange is gone. The channel with it, which opens again and declares the exchange, without a queue.
    let error = publisher.publish(message("a", "2")).await.unwrap_err();
    let name = match &error {
        PublishError::NoExchange { exchange, .. } => exchange.clone(),
        other => panic!("{other:?}"),
    };
    assert_eq!(error.to_string(), format!("topic: the server has no exchange `{name}`"));
    assert_eq!(classified(error), Outcome::Ignored, "the relay keeps the message");
    let error = publisher.publish(message("a", "2")).await.unwrap_err();
    assert!(
        matches!(&error, PublishError::Unrouted { exchange, .. } if *exchange == name),
        "{error:?}"
    );
    assert_eq!(classified(error), Outcome::Ignored);
    drop(publisher);
    for exchange in [name.clone(), format!("{name}.shards")] {
        let (_connection, channel) = world.channel().await;
        channel.exchange_delete(exchange.as_str().into(), Default::default()).await.unwrap();
    }
}

#[tokio::test]
async fn events_2_14_a_payload_above_the_limit_is_refused_and_hurts_no_other_message() {
    let Some(own) = Server::start("the largest message", "max_message_size = 1000").await else {
        return;
    };
    let world = World::new(server::at(&own.url()), own.url(), 1);
    world.begin("billing").await;
    let publisher = world.publisher();
    publisher.publish(message("a", vec![0; 1000])).await.unwrap();
    let error = publisher.publish(message("a", vec![0; 1001])).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { size: 1001, limit: 1000, .. }), "{error:?}");
    assert_eq!(classified(error), Outcome::Failure, "no repetition can succeed");
    publisher.publish(message("a", "1")).await.unwrap();
    let mut calls = Vec::new();
    for number in 0..50 {
        let (publisher, size) = (publisher.clone(), if number == 25 { 2000 } else { 10 });
        let sent = message(&format!("key-{number}"), vec![0; size]);
        calls.push(tokio::spawn(async move { (number, publisher.publish(sent).await) }));
    }
    for call in calls {
        match call.await.unwrap() {
            (25, Err(PublishError::TooLarge { limit: 1000, .. })) => {}
            (25, other) => panic!("{other:?}"),
            (_, Ok(()) | Err(PublishError::Unconfirmed { .. })) => {}
            (number, other) => panic!("{number}: {other:?}"),
        }
    }
    let own_limit =
        world.rabbit.publisher(&world.topic(), Publish::new().largest(5)).await.unwrap();
    let error = own_limit.publish(message("a", "123456")).await.unwrap_err();
    assert!(matches!(error, PublishError::TooLarge { size: 6, limit: 5, .. }), "{error:?}");
}

#[tokio::test]
async fn events_2_15_a_full_queue_is_an_error_and_drops_nothing() {
    let Some(world) = world("a full queue", 1).await else { return };
    world.begin("first").await;
    let settings = buttress_amqp::Subscribe::new("small").max_bytes(2000);
    let source = world.rabbit.subscribe(&world.topic(), settings).await.unwrap();
    let mut sent = 0;
    let error = loop {
        match world.publisher().publish(message("a", vec![0; 500])).await {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1000, "the queue never fills");
    };
    assert!(matches!(error, PublishError::Full { .. }), "{error:?}");
    assert_eq!(classified(error), Outcome::Ignored);
    source.want(10_000);
    let mut found = 0;
    while found < sent {
        found += receive(&source).await.unwrap().messages.len();
    }
    source.close().await.unwrap();
    world.remove("small").await;
    world.end().await;
}

#[tokio::test]
async fn events_2_15_a_server_that_is_short_of_memory_blocks_and_the_error_says_so() {
    let alarm = "vm_memory_high_watermark.absolute = 1MB";
    let Some(own) = Server::start("a server without memory", alarm).await else { return };
    let world = World::new(server::at(&own.url()), own.url(), 1);
    world.begin("billing").await;
    let limit = Duration::from_millis(500);
    let publisher = world.rabbit.publisher(&world.topic(), Publish::new().limit(limit)).await;
    let publisher = publisher.unwrap();
    let clock = Clock::default();
    for early in 0.. {
        let begun = clock.now();
        let error = publisher.publish(message("a", "1")).await.unwrap_err();
        let took = clock.now() - begun;
        assert!(took >= limit && took < 20 * limit, "{took:?}");
        let is_blocked = matches!(error, PublishError::Blocked);
        // The server notifies a connection with its first message. On a busy machine its channel opens late.
        let is_early =
            matches!(error, PublishError::Unconfirmed { .. } | PublishError::Disconnected { .. });
        assert!(is_blocked || (is_early && early < 20), "{error:?}");
        assert_eq!(classified(error), Outcome::Ignored);
        if is_blocked {
            break;
        }
    }
}

#[tokio::test]
async fn an_error_that_lasts_costs_no_connection_for_each_message() {
    let Some(world) = billing("an error that lasts", 1).await else { return };
    let wire = Wire::to(&world.url);
    let topic = world.topic().create(false);
    let publisher = wire.rabbit().publisher(&topic, Publish::new()).await.unwrap();
    publisher.publish(message("a", "1")).await.unwrap();
    world.end().await;
    let error = publisher.publish(message("a", "2")).await.unwrap_err();
    assert!(matches!(error, PublishError::NoExchange { .. }), "{error:?}");
    for _ in 0..200 {
        let error = publisher.publish(message("a", "3")).await.unwrap_err();
        let missing = matches!(&error, PublishError::Setup { source: SetupError::Missing { .. } });
        assert!(missing, "{error:?}");
    }
    assert_eq!(wire.connections(), 1, "the connection stands");
    // Without a connection that stands: the password is another one by now.
    wire.change(b"\0guest\0guest", b"\0guest\0gueST");
    wire.cut();
    let before = wire.connections();
    for _ in 0..200 {
        let error = publisher.publish(message("a", "4")).await.unwrap_err();
        assert!(matches!(&error, PublishError::Setup { .. }), "{error:?}");
    }
    assert!(wire.connections() - before <= 3, "{} connections", wire.connections() - before);
}

#[tokio::test]
async fn a_message_whose_caller_is_gone_is_not_sent_later() {
    let Some(world) = billing("a caller that is gone", 1).await else { return };
    let wire = Wire::to(&world.url);
    let limit = Publish::new().limit(Duration::from_secs(3));
    let publisher = wire.rabbit().publisher(&world.topic(), limit).await.unwrap();
    wire.tell(BLOCKED);
    // The client may send the first ones: until it has read of the block.
    while !matches!(publisher.publish(message("a", "early")).await, Err(PublishError::Blocked)) {}
    let short = Duration::from_millis(200);
    let clock = Clock::default();
    let given_up = clock.within(short, publisher.publish(message("a", "given up"))).await;
    assert!(given_up.is_none(), "the server takes nothing: {given_up:?}");
    wire.tell(UNBLOCKED);
    publish(&publisher, message("a", "last")).await;
    let source = world.member("billing").await;
    source.want(1000);
    let mut found = Vec::new();
    while found.last().is_none_or(|last| last != b"last") {
        let messages = receive(&source).await.unwrap().messages;
        found.extend(messages.iter().map(|message| message.payload.clone()));
    }
    assert!(!found.contains(&b"given up".to_vec()), "sent after its caller had gone");
    source.close().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn events_2_15_a_block_that_ends_before_the_channel_opens_is_over() {
    let Some(world) = billing("a block before the channel opens", 1).await else { return };
    let wire = Wire::to(&world.url);
    let limit = Duration::from_secs(20);
    let topic = world.topic().create(false);
    let publisher = wire.rabbit().publisher(&topic, Publish::new().limit(limit)).await.unwrap();
    // A block comes with the answer to the next declaration, and ends before the channel opens.
    for channel in 1..5 {
        let declared = [1, 0, channel, 0, 0, 0, 4, 0, 0x28, 0, 0x0b, 0xce];
        wire.change(&declared, &[BLOCKED, &declared].concat());
    }
    let sent = publisher.publish(message("a", "1"));
    let mut sent = std::pin::pin!(sent);
    let short = Duration::from_millis(300);
    let clock = Clock::default();
    while wire.changed() == 0 {
        assert!(clock.within(short, sent.as_mut()).await.is_none(), "the server is blocked");
    }
    assert!(clock.within(short, sent.as_mut()).await.is_none(), "the server is blocked");
    wire.tell(UNBLOCKED);
    sent.await.unwrap();
    publisher.publish(message("a", "2")).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_wrong_address_wrong_credentials_and_a_wrong_vhost_are_named() {
    let error = Rabbit::new("http://127.0.0.1").unwrap_err();
    assert!(error.to_string().starts_with("address: Invalid AMQP scheme"), "{error}");
    let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let (_, topic) = server::topic("address");
    let connect = async |url: &str| {
        let rabbit = Rabbit::new(url).unwrap();
        assert!(!format!("{rabbit:?}").contains("secret"));
        rabbit.publisher(&topic, Publish::new()).await.unwrap_err()
    };
    let error = connect(&format!("amqp://{free}")).await;
    assert!(error.to_string().starts_with("address: cannot connect to 127.0.0.1:"), "{error}");
    assert!(std::error::Error::source(&error).is_some());
    let Some(_rabbit) = server::rabbit("wrong credentials").await else { return };
    let url = server::url();
    let host = url.trim_start_matches("amqp://").split('@').next_back().unwrap();
    let error = connect(&format!("amqp://nobody:secret@{host}")).await;
    assert!(error.to_string().starts_with("credentials: cannot connect to "), "{error}");
    let error = connect(&format!("amqp://{host}/no-such-vhost")).await;
    assert!(error.to_string().starts_with("vhost: cannot connect to "), "{error}");
}
