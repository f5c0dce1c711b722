//! Values of a handler that panic when they are dropped, and keys with many messages.

use std::pin::Pin;
use std::task::{Context as Waking, Poll};

use tower::Service;

use super::transport::{Asked, Scripted};
use super::*;

/// Panics when it is dropped.
#[derive(Debug, thiserror::Error)]
#[error("no order")]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(std::thread::panicking(), "a value panics when it is dropped");
    }
}

/// Which value of the handler panics when it is dropped.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Which {
    Response,
    Future,
    Error,
    /// A future that never ends, so that the time limit drops it.
    Hanging,
}

struct Answering {
    which: Which,
    _bomb: Option<Bomb>,
}

impl Future for Answering {
    type Output = Result<Option<Bomb>, BoxError>;

    fn poll(self: Pin<&mut Self>, _: &mut Waking<'_>) -> Poll<Self::Output> {
        match self.which {
            Which::Response => Poll::Ready(Ok(Some(Bomb))),
            Which::Future => Poll::Ready(Ok(None)),
            Which::Error => Poll::Ready(Err(Rejected::new(Bomb).into())),
            Which::Hanging => Poll::Pending,
        }
    }
}

#[derive(Clone)]
struct Handler(Which, World);

impl Service<Delivery> for Handler {
    type Response = Option<Bomb>;
    type Error = BoxError;
    type Future = Answering;

    fn poll_ready(&mut self, _: &mut Waking<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, delivery: Delivery) -> Answering {
        let payload = String::from_utf8_lossy(delivery.payload()).into_owned();
        self.1.seen.lock().unwrap().push((Duration::ZERO, payload, delivery.attempt()));
        let bomb = matches!(self.0, Which::Future | Which::Hanging).then(|| Bomb);
        Answering { which: self.0, _bomb: bomb }
    }
}

/// The panic once replaced the result: a handled message was attempted again, and became a letter in the end.
#[tokio::test(start_paused = true)]
async fn events_2_1_a_drop_that_panics_does_not_change_the_result() {
    for (which, handled, dead, calls) in [
        (Which::Response, 1, 0, 1),
        (Which::Future, 1, 0, 1),
        (Which::Error, 0, 1, 1),
        (Which::Hanging, 0, 1, 5),
    ] {
        let world = World::new();
        let config = config().handler_timeout(100 * MS);
        let handler = Handler(which, world.clone());
        let consumer = Consumer::new(world.subscribe(), handler, config).unwrap();
        let consumer = consumer.dead_letters(world.letters.clone()).spawn();
        world.publish("a", "1").await;
        pass(3000 * MS).await;
        let stats = consumer.stats();
        assert_eq!((stats.handled, stats.dead, stats.held), (handled, dead, 0), "{which:?}");
        assert_eq!((world.seen().len(), consumer.has_ended()), (calls, false), "{which:?}");
        if which == Which::Error {
            let letter = &world.dead().await[0];
            assert_eq!(letter.reason, Reason::Rejected);
            assert_eq!(letter.error, "the handler rejects the message: no order");
        }
    }
}

/// A key with more messages than the consumer's concurrency and prefetch once stopped all others.
#[tokio::test(start_paused = true)]
async fn events_2_3_a_key_with_many_messages_does_not_stop_the_others() {
    let world = World::new();
    let consumer =
        world.consumer(config().retry(5, Backoff::fixed(1000 * MS)), |delivery| async move {
            if delivery.key() == "slow" && delivery.attempt() < 4 { no() } else { Ok(()) }
        });
    for number in 0..500 {
        world.publish("slow", &number.to_string()).await;
    }
    for number in 0..10 {
        world.publish("fast", &number.to_string()).await;
    }
    pass(500 * MS).await;
    assert_eq!(
        consumer.stats().handled,
        10,
        "the first of the slow key waits for its next attempt"
    );
    pass(Duration::from_secs(3 * 500 + 1)).await;
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.held), (510, 0));
}

/// A future that panics when it is dropped.
struct Armed<F> {
    future: Pin<Box<F>>,
    _bomb: Bomb,
}

fn armed<F: Future>(future: F) -> Armed<F> {
    Armed { future: Box::pin(future), _bomb: Bomb }
}

impl<F: Future> Future for Armed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Waking<'_>) -> Poll<F::Output> {
        self.future.as_mut().poll(cx)
    }
}

/// A transport whose futures panic when they are dropped.
struct ArmedSource(Scripted);

impl Source for ArmedSource {
    type Token = u64;

    fn name(&self) -> &str {
        self.0.name()
    }

    fn group(&self) -> &str {
        self.0.group()
    }

    fn limits(&self) -> Limits {
        self.0.limits()
    }

    fn want(&self, room: usize) {
        self.0.want(room);
    }

    fn receive(&self) -> impl Future<Output = Result<Batch<u64>, StoreError>> + Send {
        armed(self.0.receive())
    }

    fn settle(
        &self,
        done: &[(u64, Settle)],
    ) -> impl Future<Output = Result<Vec<Answer>, StoreError>> + Send {
        armed(self.0.settle(done))
    }

    fn keep(&self, held: &[u64]) -> impl Future<Output = Result<Vec<Answer>, StoreError>> + Send {
        armed(self.0.keep(held))
    }

    fn close(&self) -> impl Future<Output = Result<(), StoreError>> + Send {
        armed(self.0.close())
    }
}

/// The panic once replaced the answer: a batch was lost, and no message of it was handled.
#[tokio::test(start_paused = true)]
async fn events_2_1_a_source_whose_futures_panic_when_they_are_dropped_loses_no_answer() {
    let limits = Limits { keep: Some(2000 * MS), ..Limits::default() };
    let (world, source) = (World::new(), Scripted::new(limits));
    let consumer =
        world.over(ArmedSource(source.clone()), config(), async |_| done_after(1500 * MS).await);
    source.deliver(&[(1, "a"), (3, "b")]);
    pass(5000 * MS).await;
    let stats = consumer.stats();
    assert_eq!((stats.handled, stats.held, stats.failed_operations), (2, 0, 0));
    let asked = source.asked();
    let count = |wanted: fn(&Asked) -> bool| asked.iter().filter(|it| wanted(it)).count();
    assert_eq!(count(|it| matches!(it, Asked::Settle(_))), 1, "{asked:?}");
    assert_eq!(count(|it| matches!(it, Asked::Keep(_))), 1, "{asked:?}");
    // The shutdown drops the future that waits for messages.
    consumer.shut_down().await;
    assert_eq!((source.asked(), consumer.has_ended()), (vec![Asked::Close], true));
}

/// The end of the drain drops handlers. Two panics at a time once ended the process.
#[tokio::test(start_paused = true)]
async fn events_2_11_handlers_that_panic_when_the_drain_drops_them_do_not_stop_the_shutdown() {
    let (world, source) = (World::new(), Scripted::new(Limits::default()));
    let config = config().drain(100 * MS);
    let consumer = world.over(source.clone(), config, |_| armed(pending()));
    source.deliver(&[(1, "a"), (2, "b"), (3, "c")]);
    pass(10 * MS).await;
    consumer.shut_down().await;
    let asked = source.asked();
    let back = |token| (token, Settle::Back);
    assert!(asked.contains(&Asked::Settle([1, 2, 3].map(back).to_vec())), "{asked:?}");
    assert_eq!(asked.last(), Some(&Asked::Close));
}
