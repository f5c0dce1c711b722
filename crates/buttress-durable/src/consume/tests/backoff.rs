//! How often a handler that fails is called.

use buttress::retry::Jitter;
use buttress::{Classify, Outcome as Judgement};

use super::*;

/// Ignores every error: it uses up no attempt.
#[derive(Clone, Copy)]
struct Ignores;

impl<T, E> Classify<T, E> for Ignores {
    fn classify(&self, result: &Result<T, E>) -> Judgement {
        if result.is_ok() { Judgement::Success } else { Judgement::Ignored }
    }
}

#[tokio::test(start_paused = true)]
async fn events_2_8_a_failing_handler_is_called_at_its_backoff() {
    let world = World::new();
    let backoff = Backoff::exponential(200 * MS).cap(10_000 * MS).jitter(Jitter::None);
    let consumer = world.consumer(Config::new().retry(9, backoff), async |_| no());
    world.publish("a", "1").await;
    pass(3_600_000 * MS).await;
    let calls: Vec<u128> = world.seen().into_iter().map(|(at, _, _)| at).collect();
    assert_eq!(calls, [0, 200, 600, 1400, 3000, 6200, 12_600, 22_600, 32_600]);
    assert_eq!((consumer.stats().dead, consumer.stats().held), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn events_2_8_failures_that_use_up_no_attempt_are_no_loop() {
    let world = World::new();
    let seen = world.clone();
    let handler = service_fn(move |_: Delivery| {
        seen.seen.lock().unwrap().push((Duration::ZERO, String::new(), 0));
        std::future::ready(no())
    });
    let consumer = Consumer::new(world.subscribe(), handler, config()).unwrap();
    let consumer = consumer.classify(Ignores).dead_letters(world.letters.clone()).spawn();
    world.publish("a", "1").await;
    pass(60_100 * MS).await;
    assert_eq!(world.seen().len(), 301, "one every 200 ms for a minute");
    assert_eq!((consumer.stats().dead, consumer.stats().held), (0, 1));
}
