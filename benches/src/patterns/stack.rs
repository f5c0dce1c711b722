//! Six layers together: fallback > rate limit > breaker > bulkhead > retry > time limit.

use std::future::ready;
use std::time::Duration;

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::fallback::{self, FallbackLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::{self, RetryLayer};
use buttress::time_limit::{self, TimeLimitLayer};
use tower::limit::ConcurrencyLimit;
use tower::timeout::Timeout;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt};

use super::rate_limit::{PER_SECOND, PLENTY};
use super::time_limit::LIMIT;
use super::{BUTTRESS, FLOOR};
use crate::floors::{self, circuit_breaker::Streak};
use crate::peers::tower_resilience::Six;
use crate::peers::{TOWER_RESILIENCE, tower as peer_tower, tower_resilience};
use crate::per_request::PerRequest;
use crate::row::Row;
use crate::subject::Meter;
use crate::workload::{Failure, Succeeds};

pub const SIX: Row = Row::all("six layers: admitted");
pub const COUNTED: Row = Row::all("six layers: admitted, calls counted");
pub const OBSERVED: Row = Row::all("six layers: admitted, calls counted and an observer on each");
pub const CLONED: Row = Row::all("six layers: clone and drop");
/// A clone, a call and a drop, as in axum.
pub const REQUEST: Row = Row::all("six layers: a request, on its own clone");
pub const LEAKED: Row = Row::all("six layers, leaked: admitted");
pub const LEAKED_CLONED: Row = Row::all("six layers, leaked: clone and drop");
pub const LEAKED_REQUEST: Row = Row::all("six layers, leaked: a request, on its own clone");

pub const NOTES: &[&str] = &[
    "Six layers: fallback > rate limit > breaker > bulkhead > retry > time limit. tower has no \
     breaker and its rate limit is not Clone. \"tower's four\" are `then`, ConcurrencyLimit, \
     Retry and Timeout. \"tower's five\" has the rate limit too, on one thread.",
    "Six layers: tower-resilience's cheaper modes are a fixed window, which lets twice the \
     limit pass across the border of two windows, and a bulkhead that makes callers wait \
     instead of refusing them. The target compares with the faster of the two in the run.",
    "Six layers, leaked: `leak` was called on each layer, so that services and calls count no \
     references to its state. tower's four have no such choice.",
    "Six layers, a request: a clone, a call and a drop, as a framework does for each of its \
     requests.",
    "Six layers with an observer: buttress has no event for a call that just passes, so its \
     observers are not called. Each layer of tower-resilience calls its observer.",
];

/// The candidate without counts, timed in the same rounds.
pub const NOT_COUNTED: &str = "buttress, not counted";
/// With its cheapest limiter and bulkhead. The limiter lets twice the limit pass, and the bulkhead
/// refuses no call.
pub const CHEAPER: &str = "tower-resilience, fixed window and backpressure";
pub const TOWERS_FOUR: &str = "tower's four";

/// The features that are on besides the layers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Extras {
    Nothing,
    Counted,
    Observed,
}

pub fn visit(meter: &mut impl Meter) {
    meter.shared(SIX, BUTTRESS, || buttress(Succeeds, 100, Extras::Nothing));
    meter.shared(SIX, FLOOR, || floor(Succeeds, 100));
    meter.shared(SIX, TOWERS_FOUR, || towers_four(Succeeds));
    meter.single(SIX, "tower's five", || {
        peer_tower::rate_limit(towers_four(Succeeds), PLENTY.into(), Duration::from_secs(3600))
    });
    meter.shared(SIX, TOWER_RESILIENCE, || tower_resilience::six(Succeeds, 100, Six::Alike));
    meter.shared(SIX, CHEAPER, || tower_resilience::six(Succeeds, 100, Six::Cheaper));

    meter.shared(COUNTED, BUTTRESS, || buttress(Succeeds, 100, Extras::Counted));
    meter.shared(COUNTED, NOT_COUNTED, || buttress(Succeeds, 100, Extras::Nothing));

    meter.shared(OBSERVED, BUTTRESS, || buttress(Succeeds, 100, Extras::Observed));
    meter
        .shared(OBSERVED, TOWER_RESILIENCE, || tower_resilience::six(Succeeds, 100, Six::Observed));

    meter.cloned(CLONED, BUTTRESS, || buttress(Succeeds, 100, Extras::Nothing));
    meter.cloned(CLONED, FLOOR, || floor(Succeeds, 100));
    meter.cloned(CLONED, TOWERS_FOUR, || towers_four(Succeeds));
    meter.cloned(CLONED, TOWER_RESILIENCE, || tower_resilience::six(Succeeds, 100, Six::Alike));

    meter.shared(LEAKED, BUTTRESS, || leaked(Succeeds, 100));
    meter.shared(LEAKED, TOWERS_FOUR, || towers_four(Succeeds));
    meter.cloned(LEAKED_CLONED, BUTTRESS, || leaked(Succeeds, 100));
    meter.cloned(LEAKED_CLONED, TOWERS_FOUR, || towers_four(Succeeds));
    meter.shared(LEAKED_REQUEST, BUTTRESS, || PerRequest(leaked(Succeeds, 100)));
    meter.shared(LEAKED_REQUEST, TOWERS_FOUR, || PerRequest(towers_four(Succeeds)));

    meter.shared(REQUEST, BUTTRESS, || PerRequest(buttress(Succeeds, 100, Extras::Nothing)));
    meter.shared(REQUEST, FLOOR, || PerRequest(floor(Succeeds, 100)));
    meter.shared(REQUEST, TOWERS_FOUR, || PerRequest(towers_four(Succeeds)));
    meter.shared(REQUEST, TOWER_RESILIENCE, || {
        PerRequest(tower_resilience::six(Succeeds, 100, Six::Alike))
    });
}

/// A service that fits into each of the stacks.
pub trait Inner:
    Service<u64, Response = u64, Error = Failure, Future: Send + 'static> + Clone + Send + 'static
{
}

impl<S> Inner for S where
    S: Service<u64, Response = u64, Error = Failure, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

/// Builds the stack, with room for `calls` concurrent calls.
pub fn buttress<S: Inner>(inner: S, calls: u32, extras: Extras) -> impl Inner {
    macro_rules! with_extras {
        ($config:expr) => {{
            let config = $config.count_calls(extras != Extras::Nothing);
            match extras {
                Extras::Observed => config.observer(|_: buttress::Name, _: &buttress::Event| {}),
                _ => config,
            }
        }};
    }
    let rate = rate_limit::Config::new().max_tokens(PLENTY);
    let rate = with_extras!(rate.refill(PER_SECOND, Duration::from_secs(1)));
    let breaker = with_extras!(circuit_breaker::Config::new());
    let bulkhead = with_extras!(bulkhead::Config::new().max_concurrent(calls));
    let retry = with_extras!(retry::Config::new());
    let time_limit = with_extras!(time_limit::Config::new(LIMIT));
    ServiceBuilder::new()
        .layer(FallbackLayer::value(7).config(with_extras!(fallback::Config::new())))
        .layer(RateLimitLayer::new(rate).expect("valid"))
        .layer(CircuitBreakerLayer::new(breaker).expect("valid"))
        .layer(BulkheadLayer::new(bulkhead).expect("valid"))
        .layer(RetryLayer::new(retry).expect("valid"))
        .layer(TimeLimitLayer::new(time_limit).expect("valid"))
        .service(inner)
}

/// As [`buttress`] without extras, from layers that are never dropped.
pub fn leaked<S: Inner>(inner: S, calls: u32) -> impl Inner {
    let rate = rate_limit::Config::new().max_tokens(PLENTY);
    let rate = rate.refill(PER_SECOND, Duration::from_secs(1));
    let bulkhead = bulkhead::Config::new().max_concurrent(calls);
    ServiceBuilder::new()
        .layer(FallbackLayer::value(7).leak())
        .layer(RateLimitLayer::new(rate).expect("valid").leak())
        .layer(CircuitBreakerLayer::default().leak())
        .layer(BulkheadLayer::new(bulkhead).expect("valid").leak())
        .layer(RetryLayer::default().leak())
        .layer(TimeLimitLayer::after(LIMIT).leak())
        .service(inner)
}

pub fn floor<S: Inner>(inner: S, calls: u32) -> impl Inner {
    let service = floors::time_limit::TimeLimit::new(inner, LIMIT);
    let service = floors::retry::Retry::new(service);
    let service = floors::bulkhead::Bulkhead::new(service, calls);
    let service = floors::circuit_breaker::Breaker::<_, Streak>::new(service);
    let service =
        floors::rate_limit::RateLimit::new(service, Duration::from_nanos(100), PLENTY.into());
    floors::fallback::Fallback::new(service, 7)
}

pub fn towers_four<S: Inner>(
    inner: S,
) -> impl Service<u64, Response = u64, Error = BoxError, Future: Send> + Clone + Send + 'static {
    let service = peer_tower::retry(Timeout::new(inner, LIMIT));
    ConcurrencyLimit::new(service, 100)
        .then(|result: Result<u64, BoxError>| ready(Ok::<_, BoxError>(result.unwrap_or(7))))
}
