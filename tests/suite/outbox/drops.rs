//! Values of a publisher that panic when they are dropped.

use buttress::{Classify, Outcome};
use buttress_durable::outbox::{Message, Relay, Store as _};
use tower::{BoxError, Service, service_fn};

use super::world::*;
use crate::support::bombs::{ArmedClones, Bomb, armed};
use crate::support::ms;

/// Every error is a failure.
#[derive(Clone, Copy)]
struct Plainly;

impl<T, E> Classify<T, E> for Plainly {
    fn classify(&self, result: &Result<T, E>) -> Outcome {
        if result.is_ok() { Outcome::Success } else { Outcome::Failure }
    }
}

/// Publishes one message. Returns how many were relayed, and the errors of dead letters.
async fn ends<P, C>(publisher: P, classify: C) -> (u64, Vec<String>)
where
    P: Service<Message, Response: Send, Error: Into<BoxError>, Future: Send + 'static>
        + Clone
        + Send
        + 'static,
    C: Classify<P::Response, P::Error> + Clone + Send + Sync + 'static,
{
    let world = World::new();
    world.write(&[(1, "a")]).await;
    let relay = Relay::new(&world.outbox, publisher, config().publish_timeout(ms(50))).unwrap();
    let relay = relay.classify(classify).spawn();
    pass(ms(1000)).await;
    let letters = world.store.dead_letters(0, 9).await.unwrap();
    let relayed = relay.stats().relayed;
    relay.shut_down().await;
    (relayed, letters.into_iter().map(|letter| letter.error).collect())
}

/// The panic once replaced the result: a message that was published was published again, and became a dead letter.
#[tokio::test(start_paused = true)]
async fn a_drop_that_panics_does_not_change_the_verdict() {
    let relayed = || (1, Vec::new());
    let takes = service_fn(async |_: Message| Ok::<(), BoxError>(()));
    let with_response = service_fn(async |_: Message| Ok::<Bomb, BoxError>(Bomb));
    assert_eq!(ends(with_response, Plainly).await, relayed(), "the response");
    let with_future = service_fn(|_: Message| armed(async { Ok::<(), BoxError>(()) }));
    assert_eq!(ends(with_future, Plainly).await, relayed(), "the future");
    assert_eq!(ends(ArmedClones::of(takes), Plainly).await, relayed(), "the publisher");
    let classify = ArmedClones::of(Plainly);
    assert_eq!(ends(takes, classify).await, relayed(), "the classifier");
    let with_error = service_fn(async |_: Message| Err::<(), Bomb>(Bomb));
    let dead = |error: &str| (0, vec![error.to_owned()]);
    assert_eq!(ends(with_error, Plainly).await, dead("no order"), "the error");
    let hanging = service_fn(|_: Message| armed(std::future::pending::<Result<(), BoxError>>()));
    let late = dead("the publisher did not take the message within 50ms");
    assert_eq!(ends(hanging, Plainly).await, late, "the time limit drops it");
}
