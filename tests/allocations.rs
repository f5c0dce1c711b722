//! An admitted, successful call allocates nothing in any layer. It clones the service only for the
//! retry layer, which needs a clone. A separate program, because the counting allocator replaces
//! the allocator of the whole program.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "the helpers of a test fail by panicking, as the tests do"
)]

use std::cell::Cell;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use allocation_counter::measure;
use buttress::aggregate::{Aggregate, Parts};
use buttress::balance::{self, Balance, Endpoints};
use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::discover::Instance;
use buttress::fallback::FallbackLayer;
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::{self, Backoff, Budget, RetryLayer};
use buttress::split::{self, FallBack, Split};
use buttress::time_limit::{self, TimeLimitLayer};
use buttress::{AsRefusal, Error};
use buttress_durable::dispatch;
use tower::layer::layer_fn;
use tower::{Layer, Service, ServiceBuilder, service_fn};

const CALLS: u32 = 300;

#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error(transparent)]
    Refused(#[from] Error),
    #[error("the service failed")]
    Broken,
}

impl AsRefusal for AppError {
    fn as_refusal(&self) -> Option<&Error> {
        match self {
            Self::Refused(error) => Some(error),
            Self::Broken => None,
        }
    }
}

thread_local! {
    static CLONES: Cell<usize> = const { Cell::new(0) };
}

/// Answers immediately, and returns an error every `fails_every` calls.
#[derive(Debug)]
struct Plain {
    fails_every: u32,
}

impl Clone for Plain {
    fn clone(&self) -> Self {
        CLONES.set(CLONES.get() + 1);
        Self { fails_every: self.fails_every }
    }
}

impl Service<u32> for Plain {
    type Response = u32;
    type Error = AppError;
    type Future = Ready<Result<u32, AppError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), AppError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: u32) -> Self::Future {
        let fails = self.fails_every > 0 && request % self.fails_every == 0;
        ready(if fails { Err(AppError::Broken) } else { Ok(request) })
    }
}

fn once<S>(service: &mut S, request: u32) -> Result<u32, AppError>
where
    S: Service<u32, Response = u32, Error = AppError>,
{
    let mut cx = Context::from_waker(Waker::noop());
    assert!(service.poll_ready(&mut cx).is_ready());
    match pin!(service.call(request)).poll(&mut cx) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("the service answers immediately"),
    }
}

/// Counts from the first call on, without a warm-up.
fn check<L>(name: &str, layer: L, fails_every: u32, clones_a_call: usize)
where
    L: Layer<Plain, Service: Service<u32, Response = u32, Error = AppError>>,
{
    let mut service = layer.layer(Plain { fails_every });
    CLONES.set(0);
    let mut served = 0;
    let heap = measure(|| {
        for n in 1..=CALLS {
            match once(&mut service, n) {
                Ok(_) | Err(AppError::Broken) => served += 1,
                Err(AppError::Refused(_)) => {}
            }
        }
    });
    assert_eq!(served, CALLS, "{name} must admit every call");
    assert_eq!(heap.count_total, 0, "{name} allocates");
    assert_eq!(CLONES.get(), clones_a_call * CALLS as usize, "clones made by {name}");
}

fn check_good<L>(name: &str, layer: L, clones_a_call: usize)
where
    L: Layer<Plain, Service: Service<u32, Response = u32, Error = AppError>>,
{
    check(name, layer, 0, clones_a_call);
}

fn rate_limit() -> RateLimitLayer {
    RateLimitLayer::new(rate_limit::Config::new().max_tokens(10_000)).unwrap()
}

fn time_limit() -> TimeLimitLayer {
    TimeLimitLayer::new(time_limit::Config::new(Duration::from_secs(5))).unwrap()
}

/// The ways in which a breaker counts. None opens at one failure in seven.
fn breakers() -> [(&'static str, circuit_breaker::Config); 5] {
    let config = circuit_breaker::Config::new;
    let second = Duration::from_secs(1);
    [
        ("consecutive failures", config()),
        ("a count window", config().failure_rate(0.9).count_window(50)),
        ("a time window", config().failure_rate(0.9).time_window(second)),
        ("slow calls", config().failure_rate(0.9).slow_calls(second, 0.9)),
        ("slow calls in time", config().slow_calls(second, 0.9).time_window(second)),
    ]
}

/// Checks that the counter counts. Otherwise no test here could fail.
#[test]
fn the_counter_counts() {
    assert_eq!(measure(|| drop(std::hint::black_box(Box::new(1u32)))).count_total, 1);
    let boxing = tower::layer::layer_fn(|mut inner: Plain| {
        tower::service_fn(move |request| Box::pin(inner.call(request)))
    });
    let found = std::panic::catch_unwind(|| check_good("a boxing layer", boxing, 0));
    assert!(found.is_err());
}

#[test]
fn retry_allocates_nothing_and_makes_one_clone() {
    check_good("retry", RetryLayer::default(), 1);
    let budget = Budget::new(0.2, 3).unwrap();
    let config = retry::Config::new().budget(budget).total_time(Duration::from_secs(1));
    check_good("retry with a budget", RetryLayer::new(config).unwrap(), 1);
    let once = RetryLayer::new(retry::Config::new().attempts(1)).unwrap();
    check_good("retry of one attempt", once, 0);
}

/// All further attempts share one box, which is made when the first attempt has failed, and one
/// clone. So a call without a further attempt stays small.
#[test]
fn attempts_after_a_failure_share_one_allocation() {
    for attempts in [2, 5] {
        let config = retry::Config::new().attempts(attempts).backoff(Backoff::none());
        let mut service = RetryLayer::new(config).unwrap().layer(Plain { fails_every: 1 });
        CLONES.set(0);
        let heap = measure(|| assert!(once(&mut service, 1).is_err()));
        assert_eq!((heap.count_total, heap.count_current, CLONES.get()), (1, 0, 1));
    }
}

#[test]
fn a_breaker_allocates_nothing_in_any_window() {
    for (name, config) in breakers() {
        let layer =
            |config: &circuit_breaker::Config| CircuitBreakerLayer::new(config.clone()).unwrap();
        check_good(name, layer(&config), 0);
        check(name, layer(&config), 7, 0);
        check_good(name, layer(&config.clone().count_calls(true)), 0);
        check_good(name, layer(&config).backpressure(), 0);
    }
}

#[test]
fn a_limiter_allocates_nothing() {
    check_good("rate limit", rate_limit(), 0);
    check_good("rate limit with costs", rate_limit().cost(|_: &u32| 2), 0);
    check_good("rate limit with a queue", rate_limit().queued(), 0);
    check_good("rate limit with backpressure", rate_limit().backpressure(), 0);
}

#[test]
fn a_bulkhead_allocates_nothing() {
    check_good("bulkhead", BulkheadLayer::default(), 0);
    check_good("bulkhead with a queue", BulkheadLayer::default().queued(), 0);
    check_good("bulkhead with backpressure", BulkheadLayer::default().backpressure(), 0);
    let counted = BulkheadLayer::new(bulkhead::Config::new().count_calls(true)).unwrap();
    check_good("bulkhead that counts", counted, 0);
}

#[test]
fn a_time_limit_over_an_answer_that_is_there_allocates_nothing() {
    check_good("time limit", time_limit(), 0);
    check_good("time limit by request", time_limit().per_request(|_: &u32| None), 0);
}

#[test]
fn a_fallback_that_is_not_used_allocates_nothing() {
    check_good("value", FallbackLayer::value(0u32), 0);
    check_good("function", FallbackLayer::from_error(|_: AppError| 0u32), 0);
    let request = FallbackLayer::from_request(async |_: u32, error: AppError| Err::<u32, _>(error));
    check_good("async function", request, 0);
    check_good("service", FallbackLayer::service(Plain { fails_every: 0 }), 1);
}

/// Its one clone is the endpoint that gets the call.
#[test]
fn a_balancer_allocates_nothing_and_makes_one_clone() {
    fn over(plain: Plain, config: balance::Config) -> Balance<Plain> {
        let set = Endpoints::new();
        set.replace(&["a", "b", "c"].map(Instance::at), |_| plain.clone());
        Balance::new(set, config).unwrap()
    }
    let config = balance::Config::new;
    check_good("balance", layer_fn(|plain| over(plain, config())), 1);
    let in_turn = || config().policy(balance::Policy::RoundRobin);
    check_good("balance in turn", layer_fn(|plain| over(plain, in_turn())), 1);
    let key = |request: &u32| Some(u64::from(*request));
    check_good("balance by key", layer_fn(|plain| over(plain, config()).key(key)), 1);
}

/// Its one clone is the side that gets the call. A fallback needs a clone of the old side too.
#[test]
fn a_split_allocates_nothing_and_makes_one_clone() {
    fn over(plain: Plain, share: f64) -> Split<Plain, Plain> {
        Split::new(plain.clone(), plain, split::Config::new().share(share)).unwrap()
    }
    let key = |request: &u32| Some(u64::from(*request));
    check_good("split", layer_fn(|plain| over(plain, 0.0)), 1);
    check_good("split by chance", layer_fn(|plain| over(plain, 0.5)), 1);
    check_good("split by key", layer_fn(|plain| over(plain, 0.5).stick_by(key)), 1);
    let falling = layer_fn(|plain| over(plain, 1.0).fall_back(FallBack::unsent(["new"])));
    check_good("split with a fallback", falling, 2);
}

#[test]
fn the_whole_stack_allocates_nothing() {
    let stack = ServiceBuilder::new()
        .layer(FallbackLayer::value(0u32))
        .layer(rate_limit())
        .layer(CircuitBreakerLayer::default())
        .layer(BulkheadLayer::default())
        .layer(RetryLayer::default())
        .layer(time_limit());
    check_good("the stack", stack, 1);
}

struct Ask(u32);

impl dispatch::Request for Ask {
    type Response = u32;
    type Error = dispatch::NoHandler;
}

#[test]
fn events_5_a_dispatched_request_makes_one_allocation() {
    let answers = tower::service_fn(|ask: Ask| ready(Ok(ask.0)));
    let bus = dispatch::Dispatch::builder().on::<Ask, _>(answers).unwrap().build().unwrap();
    let heap = measure(|| {
        for number in 0..CALLS {
            let mut sent = pin!(bus.send(Ask(number)));
            let answer = sent.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert_eq!(answer, Poll::Ready(Ok(number)));
        }
    });
    assert_eq!(heap.count_total, u64::from(CALLS));
}

/// Returns a service that answers at its second poll.
fn slow() -> impl Service<u32, Response = u32, Error = AppError, Future = SecondPoll> + Clone {
    service_fn(|answer| SecondPoll { answer, polled: false })
}

struct SecondPoll {
    answer: u32,
    polled: bool,
}

impl Future for SecondPoll {
    type Output = Result<u32, AppError>;

    fn poll(mut self: std::pin::Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if std::mem::replace(&mut self.polled, true) {
            Poll::Ready(Ok(self.answer))
        } else {
            Poll::Pending
        }
    }
}

#[tokio::test(start_paused = true)]
async fn edge_4_7_an_aggregate_allocates_nothing_and_for_parts_that_wait_one_timer() {
    let plain = Plain { fails_every: 0 };
    let ready = Aggregate::builder().required("a", plain.clone()).optional("b", plain.clone());
    let mut ready = ready.optional("c", plain).build().unwrap();
    CLONES.set(0);
    let heap = measure(|| {
        for n in 1..=CALLS {
            let mut cx = Context::from_waker(Waker::noop());
            let Poll::Ready(Ok(parts)) = pin!(ready.call(n)).poll(&mut cx) else { panic!() };
            let Parts { values: (a, Ok(b), Ok(c)), .. } = parts else { panic!() };
            assert_eq!((a, b, c), (n, n, n));
        }
    });
    assert_eq!(heap.count_total, 0, "parts that answer immediately");
    assert_eq!(CLONES.get(), 3 * CALLS as usize);

    let slow =
        Aggregate::builder().required("a", slow()).optional("b", slow()).optional("c", slow());
    let mut slow = slow.build().unwrap();
    let heap = measure(|| {
        for n in 1..=CALLS {
            let mut cx = Context::from_waker(Waker::noop());
            let mut response = pin!(slow.call(n));
            assert!(response.as_mut().poll(&mut cx).is_pending());
            assert!(response.poll(&mut cx).is_ready());
        }
    });
    assert_eq!(heap.count_total, u64::from(CALLS), "one timer a call");
}
