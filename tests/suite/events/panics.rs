//! A panic of an observer, a rejector or a classifier costs the layer nothing: no permit, token,
//! probe or place is lost, and no waiter is forgotten.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use buttress::bulkhead::{self, BulkheadLayer, KeyedBulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer, KeyedCircuitBreakerLayer};
use buttress::fallback::{self, FallbackLayer};
use buttress::idempotency::{self, IdempotencyLayer, InvalidKey, Key, MemoryStore};
use buttress::rate_limit::{self, KeyedRateLimitLayer, RateLimitLayer};
use buttress::retry::{self, Backoff, RetryLayer};
use buttress::sidecar::{self, SidecarLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{CircuitState, Error, Event, Name, Outcome, as_response, classify_fn};
use tower::{Layer, Service};

use crate::support::{
    AppError, Ask, Scripted, Step, Waiter, begin, behind, is_pending, ms, now, panic_of,
};

/// Panics at every event, and counts them.
#[derive(Clone, Default)]
struct Touchy(Arc<AtomicUsize>);

impl Touchy {
    fn events(&self) -> usize {
        self.0.swap(0, Ordering::SeqCst)
    }
}

impl buttress::Observer for Touchy {
    fn on_event(&self, _: Name, _: &Event) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("the observer's own");
    }
}

fn no_answer(_: Error) -> u32 {
    panic!("the rejector's own")
}

fn no_judgement(_: &Result<u32, AppError>) -> Outcome {
    panic!("the classifier's own")
}

/// Polls until it ends, even by a panic.
fn outlast<F: Future + Unpin>(mut future: F) {
    for _ in 0..9 {
        let polled = catch_unwind(AssertUnwindSafe(|| is_pending(&mut future)));
        if !matches!(polled, Ok(true)) {
            return;
        }
    }
}

/// Calls `service`, whose call and response may panic.
fn try_to_call<S>(service: &mut S)
where
    S: Service<Ask, Response = u32, Error = AppError>,
{
    if let Ok(response) = catch_unwind(AssertUnwindSafe(|| begin(service, Ask(0)))) {
        outlast(response);
    }
}

fn touchy_circuit(observer: &Touchy) -> circuit_breaker::Config {
    circuit_breaker::Config::new()
        .consecutive_failures(1)
        .open_for(ms(100))
        .panicked_calls(Outcome::Failure)
        .observer(observer.clone())
}

/// Regression: the panic lost the probe for a whole lease.
#[tokio::test(start_paused = true)]
async fn the_place_of_a_probe_is_given_back() {
    let observer = Touchy::default();
    let layer = CircuitBreakerLayer::new(touchy_circuit(&observer)).unwrap();
    let keyed = KeyedCircuitBreakerLayer::new(touchy_circuit(&observer), 4, |_: &Ask| 7).unwrap();
    let (inner, log) = Scripted::new();
    let circuit = layer.handle();
    panic_of(|| circuit.try_acquire().unwrap().failure());
    panic_of(|| keyed.handle().try_acquire(&7).unwrap().failure());
    let other = keyed.handle().get(&7).unwrap();
    type Try<'a> = Box<dyn FnMut() + 'a>;
    let (mut refusing, mut by_key) = (layer.layer(inner.clone()), keyed.layer(inner.clone()));
    let mut waiting = layer.clone().backpressure().layer(inner.clone());
    let tries: [(&circuit_breaker::Handle, Try<'_>); 5] = [
        (&circuit, Box::new(|| drop(circuit.try_acquire()))),
        (&circuit, Box::new(|| try_to_call(&mut refusing))),
        (&circuit, Box::new(|| drop(Waiter::new().poll_ready(&mut waiting)))),
        (&other, Box::new(|| drop(keyed.handle().try_acquire(&7)))),
        (&other, Box::new(|| try_to_call(&mut by_key))),
    ];
    for (number, (circuit, mut attempt)) in tries.into_iter().enumerate() {
        panic_of(|| circuit.force_open());
        panic_of(|| circuit.reset());
        panic_of(|| circuit.try_acquire().unwrap().failure());
        tokio::time::advance(ms(100)).await;
        observer.events();
        let _any = catch_unwind(AssertUnwindSafe(&mut attempt));
        assert_eq!(observer.events(), 1, "try {number}: half-open, and nothing else");
        assert_eq!(circuit.state(), CircuitState::HalfOpen, "try {number}");
        assert!(circuit.check().is_ok(), "try {number}: the place is free");
    }
    assert_eq!(log.calls(), 0);
}

/// Regression: a second panic, in a destructor, ended the process.
#[tokio::test(start_paused = true)]
async fn an_observer_that_panics_while_a_panic_unwinds_does_not_end_the_process() {
    let observer = Touchy::default();
    let layer = CircuitBreakerLayer::new(touchy_circuit(&observer)).unwrap();
    let (inner, log) = Scripted::new();
    log.then([Step::PanicAtPoll(1)]);
    let mut response = begin(&mut layer.layer(inner.clone()), Ask(0));
    let said = panic_of(|| is_pending(&mut response));
    assert_ne!(said, "the observer's own", "the first panic continues");
    assert_eq!((layer.handle().state(), observer.events()), (CircuitState::Open, 1));

    tokio::time::advance(ms(100)).await;
    log.panic_ready();
    let mut service = layer.layer(inner);
    panic_of(|| Waiter::new().poll_ready(&mut service));
    assert_eq!(observer.events(), 2, "half-open, and open again");
    assert_eq!(layer.handle().state(), CircuitState::Open);
}

#[tokio::test(start_paused = true)]
async fn limiters_keep_their_tokens_permits_and_places() {
    let observer = Touchy::default();
    let limit = || {
        let config = rate_limit::Config::new().max_tokens(1).refill(1, ms(100));
        config.queue(1).max_wait(ms(200)).observer(observer.clone())
    };
    let layer = RateLimitLayer::new(limit()).unwrap();
    let (inner, log) = Scripted::new();
    let mut refusing = layer.clone().reject(as_response(no_answer)).layer(inner.clone());
    let mut queued = layer.clone().queued().layer(inner.clone());
    layer.handle().try_acquire(1).unwrap();
    try_to_call(&mut refusing);
    let mut waits = begin(&mut queued, Ask(0));
    assert!(is_pending(&mut waits));
    try_to_call(&mut queued);
    assert_eq!(layer.handle().stats().queued, 1, "the queue is full");
    drop(waits);
    assert_eq!((layer.handle().stats().queued, layer.handle().available()), (0, 0));
    tokio::time::advance(ms(100)).await;
    assert_eq!((layer.handle().available(), observer.events()), (1, 2));
    panic_of(|| layer.handle().reconfigure(&limit().max_tokens(2)));
    assert_eq!(layer.handle().stats().max_tokens, 2, "the change took effect");

    let wall = || {
        let config = bulkhead::Config::new().max_concurrent(1);
        config.queue(1).max_wait(ms(50)).observer(observer.clone())
    };
    let layer = BulkheadLayer::new(wall()).unwrap();
    let mut refusing = layer.clone().reject(as_response(no_answer)).layer(inner.clone());
    let mut queued = layer.clone().queued().layer(inner.clone());
    let running = layer.handle().try_acquire().unwrap();
    try_to_call(&mut refusing);
    let mut waits = begin(&mut queued, Ask(0));
    assert!(is_pending(&mut waits));
    try_to_call(&mut queued);
    tokio::time::advance(ms(50)).await;
    outlast(waits);
    drop(running);
    let stats = layer.handle().stats();
    assert_eq!((stats.active, stats.queued), (0, 0));
    assert!(layer.handle().try_acquire().is_ok());
    panic_of(|| layer.handle().resize(2));
    assert_eq!(layer.handle().stats().max_concurrent, 2);
    observer.events();

    // A key without room, and a key whose state refuses.
    let tokens = KeyedRateLimitLayer::new(limit(), 1, |ask: &Ask| ask.0).unwrap();
    let walls = KeyedBulkheadLayer::new(wall(), 1, |ask: &Ask| ask.0).unwrap();
    tokens.handle().try_acquire(&0, 1).unwrap();
    let running = walls.handle().try_acquire(&0).unwrap();
    for key in [0, 1] {
        panic_of(|| tokens.handle().try_acquire(&key, 1));
        panic_of(|| walls.handle().try_acquire(&key).map(drop));
    }
    assert_eq!(observer.events(), 4);
    drop(running);
    assert!(walls.handle().try_acquire(&0).is_ok());
    assert_eq!((tokens.handle().stats().keys, walls.handle().stats().keys), (1, 1));
    assert_eq!(log.calls(), 0);
}

#[tokio::test(start_paused = true)]
async fn calls_are_dropped_and_counted_once() {
    let observer = Touchy::default();
    let (inner, log) = Scripted::new();
    log.always(Step::Fail);
    let backoff = Backoff::fixed(ms(100));
    for backoff in [backoff, Backoff::none()] {
        let config = retry::Config::new().attempts(2).backoff(backoff).observer(observer.clone());
        let layer = RetryLayer::new(config).unwrap();
        try_to_call(&mut layer.layer(inner.clone()));
        outlast(Box::pin(layer.run(async |_| Err::<u32, _>(AppError::Broken("no")))));
        let stats = layer.handle().stats();
        assert_eq!((stats.retries, stats.not_made, observer.events()), (0, 2, 2));
    }

    let config = time_limit::Config::new(ms(50)).observer(observer.clone());
    let layer = TimeLimitLayer::new(config).unwrap().reject(as_response(no_answer));
    log.then([Step::Never]);
    let mut late = begin(&mut layer.layer(inner.clone()), Ask(0));
    assert!(is_pending(&mut late));
    tokio::time::advance(ms(50)).await;
    panic_of(|| is_pending(&mut late));
    assert_eq!((log.live(), observer.events()), (0, 1), "cut short although the future is kept");

    let layer =
        FallbackLayer::value(0u32).config(fallback::Config::new().observer(observer.clone()));
    try_to_call(&mut layer.layer(inner.clone()));
    assert_eq!((layer.handle().stats().used, observer.events(), log.live()), (1, 1, 0));

    let parts = || {
        let breaker = circuit_breaker::Config::new().consecutive_failures(1).open_for(ms(100));
        let retry = retry::Config::new().attempts(2).backoff(Backoff::none());
        sidecar::Config::new().circuit_breaker(breaker).retry(retry)
    };
    let layer = SidecarLayer::new(parts().observer(observer.clone())).unwrap();
    try_to_call(&mut layer.layer(inner.clone()));
    let stats = layer.handle().stats();
    assert_eq!((stats.requests, stats.abandoned), (1, 1), "{stats:?}");
    assert_eq!((stats.retries, stats.retries_not_made, log.live()), (0, 1, 0));
    assert_eq!(layer.handle().circuit_breaker().state(), CircuitState::Open, "it has panicked");

    let layer = SidecarLayer::new(parts()).unwrap().classify(classify_fn(no_judgement));
    try_to_call(&mut layer.layer(inner));
    let stats = layer.handle().stats();
    assert_eq!((stats.requests, stats.abandoned), (1, 1), "{stats:?}");
    assert_eq!((stats.retries, stats.retries_not_made, log.live()), (1, 0, 0));
    assert_eq!(layer.handle().circuit_breaker().state(), CircuitState::Open, "it has panicked");
}

/// Regression: a key whose owner was reported before it held the key stayed taken until the lease
/// expired.
#[tokio::test(start_paused = true)]
async fn a_key_that_was_taken_over_is_free_again() {
    let observer = Touchy::default();
    let config = idempotency::Config::new().observer(observer.clone());
    let by_number: fn(&Ask) -> Result<Key, InvalidKey> = |ask| Key::new(&ask.0.to_string());
    let layer = IdempotencyLayer::new(config, MemoryStore::<u32>::default(), by_number).unwrap();
    let (mut service, _) = behind(&layer, [Step::Never]);
    let mut first = begin(&mut service, Ask(7));
    assert!(is_pending(&mut first));
    let mut second: Pin<Box<_>> = begin(&mut service, Ask(7));
    assert!(is_pending(&mut second));
    drop(first);
    assert_eq!(panic_of(|| is_pending(&mut second)), "the observer's own");
    drop(second);
    tokio::task::yield_now().await;
    assert_eq!(now(begin(&mut service, Ask(7))), Ok(2), "the key is not in flight");
    assert_eq!(observer.events(), 1);
    // A replay whose report panics changes nothing either.
    for _ in 0..2 {
        panic_of(|| now(begin(&mut service, Ask(7))));
    }
    let size = layer.handle().stats().store.unwrap();
    assert_eq!((size.in_flight, size.stored), (0, 1));
}
