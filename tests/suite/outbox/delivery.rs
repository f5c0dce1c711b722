//! Order, delays, polls.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress::Clock;
use buttress_durable::outbox::{Config, Message, MessageId, NewMessage, Relay, Store};
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::world::*;
use crate::support::ms;

#[tokio::test(start_paused = true)]
async fn a_message_is_relayed_at_once_when_its_writer_says_so() {
    let world = World::new();
    let relay = world.relay(config());
    pass(ms(5050)).await;
    world.write(&[(1, "a")]).await;
    pass(ms(1)).await;
    assert_eq!(world.times(), [(5050, 1)]);
    let stats = relay.stats();
    assert_eq!((stats.written, stats.relayed, stats.dead, stats.in_flight), (1, 1, 0, 0));
    assert_eq!(world.store.backlog().await.unwrap().pending, 0);
}

#[tokio::test(start_paused = true)]
async fn a_message_nobody_told_of_is_found_by_the_next_look() {
    let world = World::new();
    let _relay = world.relay(config());
    pass(ms(250)).await;
    let mut tx = world.store.begin();
    drop(world.outbox.write(&mut tx, message(1, "a")).await.unwrap());
    tx.commit();
    pass(ms(100)).await;
    assert_eq!(world.times(), [(300, 1)], "a poll every 100 ms");
}

#[tokio::test(start_paused = true)]
async fn looks_become_rare_when_there_is_nothing_and_no_rarer_than_a_second() {
    let world = World::new();
    let relay = world.relay(config());
    pass(ms(60_000)).await;
    let cycles = relay.stats().poll_cycles;
    assert!((60..=75).contains(&cycles), "{cycles} polls in a minute");
}

#[tokio::test(start_paused = true)]
async fn a_key_is_relayed_in_order_and_other_keys_beside_it() {
    let world = World::new();
    let running = Arc::new(AtomicUsize::new(0));
    let peak = Arc::new(AtomicUsize::new(0));
    let (now, most) = (running.clone(), peak.clone());
    world.publish(move |_| {
        let (now, most) = (now.clone(), most.clone());
        async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            pass(ms(10)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    });
    let keys = ["a", "b", "c"];
    let written: Vec<(u32, &str)> = (0..60).map(|n| (n, keys[n as usize % 3])).collect();
    world.write(&written).await;
    let _relay = world.relay(config().concurrency(2));
    pass(ms(10_000)).await;
    let seen = world.seen();
    assert_eq!(seen.len(), 60);
    for key in 0..3 {
        let own: Vec<u32> = seen.iter().filter(|n| *n % 3 == key).copied().collect();
        assert!(own.is_sorted(), "{own:?}");
    }
    assert_eq!(peak.load(Ordering::SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_delayed_message_comes_at_its_time_and_holds_up_nobody() {
    let world = World::new();
    let _relay = world.relay(config());
    world.write_one(message(1, "a").delay(ms(700))).await;
    world.write(&[(2, "a")]).await;
    pass(ms(2000)).await;
    assert_eq!(world.times(), [(0, 2), (700, 1)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_rolled_back_is_never_relayed() {
    let world = World::new();
    let _relay = world.relay(config());
    let mut tx = world.store.begin();
    let written = world.outbox.write(&mut tx, message(1, "a")).await.unwrap();
    drop(tx);
    written.committed();
    let mut tx = world.store.begin();
    let empty = world.outbox.write(&mut tx, NewMessage::new(MessageId::new(2), "", "x")).await;
    assert_eq!(
        empty.unwrap_err().to_string(),
        "store: invalid: message 00000000-0000-0000-0000-000000000002: key of 0 bytes, between 1 and 512 \
         are allowed"
    );
    pass(ms(1000)).await;
    assert_eq!(world.seen(), [0; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_need_not_be_sync_and_may_be_slow_to_be_ready() {
    let world = World::new();
    let bulkhead =
        buttress::bulkhead::BulkheadLayer::new(buttress::bulkhead::Config::new().max_concurrent(1));
    let publisher = ServiceBuilder::new()
        .layer(bulkhead.unwrap().backpressure())
        .service_fn(async |_: Message| {
            Clock::default().sleep(ms(10)).await;
            Ok::<(), BoxError>(())
        })
        .boxed_clone();
    let written: Vec<(u32, String)> = (0..20).map(|number| (number, number.to_string())).collect();
    for (number, key) in &written {
        world.write(&[(*number, key)]).await;
    }
    let relay = Relay::new(&world.outbox, publisher, config()).unwrap().spawn();
    pass(ms(250)).await;
    assert_eq!(relay.stats().relayed, 20);
}

#[tokio::test(start_paused = true)]
async fn more_than_a_batch_goes_through_without_a_wait() {
    let world = World::new();
    let keys: Vec<String> = (0..7).map(|key| key.to_string()).collect();
    let written: Vec<(u32, &str)> =
        (0..2000).map(|number| (number, keys[number as usize % 7].as_str())).collect();
    world.write(&written).await;
    let relay = world.relay(config().batch(50));
    pass(ms(1)).await;
    let seen = world.seen();
    assert_eq!((seen.len(), relay.stats().relayed), (2000, 2000));
    for key in 0..7 {
        assert!(seen.iter().filter(|number| *number % 7 == key).is_sorted());
    }
}

#[tokio::test(start_paused = true)]
async fn a_configuration_out_of_bounds_is_refused() {
    let world = World::new();
    let publisher = tower::service_fn(async |_: Message| Ok::<(), BoxError>(()));
    let zero = Duration::ZERO;
    let wrong = [
        (Config::new().batch(0), "batch"),
        (Config::new().batch(10_001), "batch"),
        (Config::new().poll(zero), "poll"),
        (Config::new().idle_poll(ms(1)), "idle-poll"),
        (Config::new().retry(0, buttress::retry::Backoff::none()), "attempts"),
        (Config::new().max_hint(zero), "max-hint"),
        (Config::new().max_starts(0), "max-starts"),
        (Config::new().publish_timeout(zero), "publish-timeout"),
        (Config::new().concurrency(0), "concurrency"),
        (Config::new().lease(zero), "lease"),
        (Config::new().keep_delivered(zero, 1), "keep-delivered"),
    ];
    for (config, field) in wrong {
        let error = Relay::new(&world.outbox, publisher, config).unwrap_err();
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn delivered_messages_are_purged_when_they_are_old() {
    let world = World::new();
    world.write(&[(1, "a"), (2, "b"), (3, "c")]).await;
    let _relay = world.relay(config().keep_delivered(Duration::from_secs(90), 2));
    // The poll after a minute comes too early. The next is a minute later, and another follows a
    // second after that, because the batch was full.
    pass(Duration::from_secs(122)).await;
    assert_eq!(
        world.store.purge_delivered(Duration::from_secs(90), 9).await.unwrap(),
        0,
        "all are gone"
    );
}
