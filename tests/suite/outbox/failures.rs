//! Publishers that fail, hang and panic; holds, hints and dead letters.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use buttress::{Classify, Outcome, ServiceErrors};
use buttress_durable::outbox::{HeadOfKey, Message, MessageId, Relay, Store};
use tower::{BoxError, ServiceBuilder};

use super::world::*;
use crate::support::ms;

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
    // A refusal of a layer uses up no attempt, however often it comes.
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
    world.publishing_fails(1);
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
    world.publishing_fails(1);
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

/// Regression: the value that a panic carries panicked when it was dropped, and ended the relay.
#[tokio::test(start_paused = true)]
async fn a_panic_whose_value_panics_as_well_has_failed() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the value of a panic")
        }
    }
    let world = World::new();
    world.publish(|message| {
        let first = message.attempts == 0;
        async move { if first { std::panic::panic_any(Bomb) } else { Ok(()) } }
    });
    world.write(&[(1, "a"), (2, "b")]).await;
    let relay = world.relay(config());
    pass(ms(1000)).await;
    assert_eq!(world.times(), [(0, 1), (0, 2), (100, 1), (100, 2)]);
    assert_eq!(relay.stats().relayed, 2);
}

/// Regression: the panic of a classifier, or of a publisher's `clone`, ended the relay.
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

/// Regression: an extreme hint held its key forever, without a dead letter to requeue.
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
    let hour = Duration::from_secs(3600);
    let cases = [
        (config().max_hint(ms(5000)), ms(5000)),
        (config().poll(hour).idle_poll(hour).lease(3 * hour), day),
    ];
    for (config, longest) in cases {
        let world = World::new();
        world.publish(|message| {
            let fails = message.attempts == 0;
            async move { if fails { Err(BoxError::from("away")) } else { Ok(()) } }
        });
        world.write(&[(1, "a")]).await;
        let _relay = world.relay_of(config).classify(Forever).spawn();
        pass(longest + ms(1000)).await;
        assert_eq!(world.times(), [(0, 1), (longest.as_millis(), 1)]);
    }
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

/// An outage of the publisher refuses all messages. The relay once turned its whole backlog round without a pause.
#[tokio::test(start_paused = true)]
async fn events_2_8_the_waits_of_a_refused_backlog_grow_and_a_delivery_ends_that() {
    let world = World::new();
    let (calls, is_there) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, there) = (calls.clone(), is_there.clone());
    let publisher = tower::service_fn(move |_: Message| {
        counted.fetch_add(1, Ordering::Relaxed);
        let is_there = there.load(Ordering::Relaxed);
        async move { if is_there { Ok(()) } else { Err(BoxError::from("no server")) } }
    });
    let relay = Relay::new(&world.outbox, publisher, config()).unwrap().classify(Refusing).spawn();
    let keys: Vec<String> = (1..=100).map(|number| format!("key-{number}")).collect();
    for (number, key) in (1..).zip(&keys) {
        world.write(&[(number, key)]).await;
    }
    pass(ms(60_000)).await;
    // 0.1, 0.2 .. 12.8 s for each key.
    let refused = calls.swap(0, Ordering::Relaxed);
    assert!((900..1500).contains(&refused), "{refused}");
    is_there.store(true, Ordering::Relaxed);
    pass(ms(13_000)).await;
    assert_eq!((relay.stats().relayed, calls.load(Ordering::Relaxed)), (100, 100));
}

/// Every error is a refusal, which uses up no attempt.
#[derive(Clone, Copy)]
struct Refusing;

impl Classify<(), BoxError> for Refusing {
    fn classify(&self, result: &Result<(), BoxError>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Ignored }
    }
}

#[tokio::test(start_paused = true)]
async fn a_dead_letter_has_the_cause_of_its_error_too() {
    #[derive(Debug, thiserror::Error)]
    #[error("the brokers refused it")]
    struct Refused(#[source] std::io::Error);
    let world = World::new();
    world.publish(|_| async { Err(Refused(std::io::Error::other("no permission")).into()) });
    world.write(&[(1, "a")]).await;
    let _relay = world.relay(config());
    pass(ms(1000)).await;
    let letters = world.store.dead_letters(0, 9).await.unwrap();
    assert_eq!(letters[0].error, "the brokers refused it: no permission");
}
