//! Order, failures, dead letters, delays, looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buttress::outbox::{Config, HeadOfKey, Message, MessageId, NewMessage, Relay, Store};
use buttress::{Classify, Clock, Outcome, ServiceErrors};
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
    assert_eq!(world.times(), [(300, 1)], "looks are 100 ms apart");
}

#[tokio::test(start_paused = true)]
async fn looks_become_rare_when_there_is_nothing_and_no_rarer_than_a_second() {
    let world = World::new();
    let relay = world.relay(config());
    pass(ms(60_000)).await;
    let cycles = relay.stats().poll_cycles;
    assert!((60..=75).contains(&cycles), "{cycles} looks in a minute");
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
async fn a_failure_holds_its_key_for_the_backoff_and_no_other() {
    let world = World::new();
    world.publish(|message| {
        let fails = number(message) == 1 && message.attempts < 2;
        async move { if fails { Err(BoxError::from("away")) } else { Ok(()) } }
    });
    world.write(&[(1, "a"), (2, "a"), (3, "b")]).await;
    let relay = world.relay(config());
    pass(ms(1000)).await;
    assert_eq!(world.times(), [(0, 1), (0, 3), (100, 1), (300, 1), (300, 2)]);
    let stats = relay.stats();
    assert_eq!((stats.relayed, stats.failed, stats.redelivered, stats.dead), (3, 2, 2, 0));
    assert_eq!((stats.lag_max, stats.lag_average), (ms(300), ms(200)));
    assert_eq!(stats.lag_histogram.iter().sum::<u64>(), 3);
}

#[tokio::test(start_paused = true)]
async fn the_failure_may_ask_for_longer() {
    let world = World::new();
    let limiter =
        buttress::rate_limit::Config::new().refill(1, Duration::from_secs(5)).max_tokens(1);
    let limiter = buttress::rate_limit::RateLimitLayer::new(limiter).unwrap();
    let publisher = ServiceBuilder::new()
        .layer(limiter)
        .service(tower::service_fn(async |_: Message| Ok::<(), BoxError>(())));
    world.write(&[(1, "a"), (2, "b")]).await;
    // A refusal on the way uses up no attempt, however often it comes.
    let relay =
        Relay::new(&world.outbox, publisher, config().retry(1, buttress::retry::Backoff::none()));
    let relay = relay.unwrap().classify(ServiceErrors).spawn();
    pass(ms(4999)).await;
    assert_eq!((relay.stats().relayed, relay.stats().failed), (1, 1));
    pass(ms(2)).await;
    assert_eq!((relay.stats().relayed, relay.stats().dead), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn after_its_attempts_a_message_is_a_dead_letter_and_its_key_goes_on() {
    let world = World::new();
    world.publish(|message| {
        let fails = number(message) == 1;
        async move { if fails { Err(BoxError::from("no")) } else { Ok(()) } }
    });
    world.write(&[(1, "a"), (2, "a")]).await;
    let relay = world.relay(config());
    pass(ms(1000)).await;
    assert_eq!(world.times(), [(0, 1), (100, 1), (300, 1), (300, 2)]);
    let letters = world.store.dead_letters(0, 9).await.unwrap();
    assert_eq!((letters[0].error.as_str(), letters[0].message.attempts), ("no", 3));
    assert_eq!(relay.stats().dead, 1);
    world.publish(|_| async { Ok(()) });
    assert_eq!(world.store.requeue(&[MessageId::new(1)]).await.unwrap(), 1);
    relay.wake();
    pass(ms(1)).await;
    assert_eq!(world.seen(), [1, 1, 1, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_can_block_its_key() {
    let world = World::new();
    world.publish(|message| {
        let fails = number(message) == 1;
        async move { if fails { Err(BoxError::from("no")) } else { Ok(()) } }
    });
    world.write(&[(1, "a"), (2, "a"), (3, "b")]).await;
    let relay = world.relay(config().head_of_key(HeadOfKey::Block));
    pass(ms(60_000)).await;
    assert_eq!(world.seen(), [1, 3, 1, 1]);
    world.store.discard(&[MessageId::new(1)]).await.unwrap();
    relay.wake();
    pass(ms(1)).await;
    assert_eq!(world.seen(), [1, 3, 1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn a_publisher_that_hangs_or_panics_has_failed() {
    let world = World::new();
    world.publish(|message| {
        let (number, attempts) = (number(message), message.attempts);
        async move {
            match (number, attempts) {
                (1, 0) => std::future::pending().await,
                (2, 0) => panic!("a publisher"),
                _ => Ok(()),
            }
        }
    });
    world.write(&[(1, "a"), (2, "b")]).await;
    let _relay = world.relay(config().publish_timeout(ms(500)));
    pass(ms(1000)).await;
    assert_eq!(world.times(), [(0, 1), (0, 2), (100, 2), (600, 1)]);
}

/// Found in review: the panic of a classifier, or of a publisher's `clone`, ended the relay.
#[tokio::test(start_paused = true)]
async fn a_classifier_or_a_clone_that_panics_has_failed() {
    #[derive(Clone)]
    struct Panics;
    impl<T, E> Classify<T, E> for Panics {
        fn classify(&self, _: &Result<T, E>) -> Outcome {
            panic!("a classifier")
        }
    }
    let world = World::new();
    world.write(&[(1, "a"), (2, "b")]).await;
    let relay = world.relay_of(config()).classify(Panics).spawn();
    pass(ms(1000)).await;
    assert_eq!(world.times(), [(0, 1), (0, 2), (100, 1), (100, 2), (300, 1), (300, 2)]);
    assert_eq!(world.store.dead_letters(0, 9).await.unwrap()[0].error, "the classifier panicked");
    relay.shut_down().await;

    struct Uncopyable;
    impl Clone for Uncopyable {
        fn clone(&self) -> Self {
            panic!("a clone")
        }
    }
    let world = World::new();
    world.write(&[(1, "a"), (2, "b")]).await;
    let uncopyable = Uncopyable;
    let publisher = tower::service_fn(move |_: Message| {
        let _ = &uncopyable;
        async { Ok::<(), BoxError>(()) }
    });
    let relay = Relay::new(&world.outbox, publisher, config()).unwrap().spawn();
    pass(ms(1000)).await;
    let letters = world.store.dead_letters(0, 9).await.unwrap();
    let errors: Vec<&str> = letters.iter().map(|letter| letter.error.as_str()).collect();
    assert_eq!(errors, ["the publisher panicked"; 2]);
    assert_eq!(relay.stats().failed, 6);
    relay.shut_down().await;
}

/// Found in review: a hint beyond all sense held its key for good, with no dead letter to requeue.
#[tokio::test(start_paused = true)]
async fn no_failure_holds_its_key_longer_than_the_longest_hint() {
    #[derive(Clone)]
    struct Forever;
    impl<T, E> Classify<T, E> for Forever {
        fn classify(&self, result: &Result<T, E>) -> Outcome {
            if result.is_ok() { Outcome::Success } else { Outcome::Failure }
        }

        fn retry_after(&self, result: &Result<T, E>) -> Option<Duration> {
            result.is_err().then_some(Duration::MAX)
        }
    }
    let day = Duration::from_secs(24 * 3600);
    let cases = [
        (config().max_hint(ms(5000)), ms(5000)),
        (config().idle_poll(Duration::from_secs(3600)), day),
    ];
    for (config, longest) in cases {
        let world = World::new();
        world.publish(|message| {
            let fails = message.attempts == 0;
            async move { if fails { Err(BoxError::from("away")) } else { Ok(()) } }
        });
        world.write(&[(1, "a")]).await;
        let _relay = world.relay_of(config).classify(Forever).spawn();
        pass(2 * day).await;
        assert_eq!(world.times(), [(0, 1), (longest.as_millis(), 1)]);
    }
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
async fn a_thousand_messages_behind_a_held_key_delay_nobody() {
    let world = World::new();
    world.publish(|message| {
        let fails = message.key == "held";
        async move { if fails { Err(BoxError::from("no")) } else { Ok(()) } }
    });
    let held: Vec<(u32, &str)> = (0..1000).map(|number| (number, "held")).collect();
    world.write(&held).await;
    let _relay = world.relay(config().head_of_key(HeadOfKey::Block));
    pass(ms(2000)).await;
    world.write(&[(5000, "a"), (5001, "b")]).await;
    pass(ms(1)).await;
    assert_eq!(world.times()[3..], [(2000, 5000), (2000, 5001)]);
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
    // The look after a minute comes too early; the next is a minute later, and another a second after
    // that, because there was a whole batch.
    pass(Duration::from_secs(122)).await;
    assert_eq!(world.store.purge(Duration::from_secs(90), 9).await.unwrap(), 0, "all are gone");
}
