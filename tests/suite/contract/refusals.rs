//! A refused call leaves no reservation in any inner service.

use buttress::as_response;
use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::{self, CircuitBreakerLayer};
use buttress::rate_limit::{self, RateLimitLayer};
use tower::limit::ConcurrencyLimit;
use tower::{Layer, Service};

use super::{REFUSED, as_number};
use crate::support::{AppError, Ask, Scripted, Waiter, begin, ms, now};

/// Puts a refusing layer in front of a service with one permit. The refused service is still alive
/// when another caller asks for the permit.
///
/// Broken by `Fault::ReservesWhatItRefuses`.
pub(crate) async fn leaves_no_reservation<L>(layer: L, refusal: u32)
where
    L: Layer<ConcurrencyLimit<Scripted>>,
    L::Service: Service<Ask, Response = u32, Error = AppError>,
{
    let (inner, log) = Scripted::new();
    let limited = ConcurrencyLimit::new(inner, 1);
    let mut other = limited.clone();
    let mut service = layer.layer(limited);
    assert_eq!(now(begin(&mut service, Ask(0))), Ok(refusal), "the layer refuses");
    assert_eq!(log.calls(), 0);
    assert!(Waiter::new().poll_ready(&mut other).is_ready(), "the refused call kept the permit");
}

macro_rules! refusing {
    ($($row:ident => $layer:expr;)*) => { $(
        #[tokio::test(start_paused = true)]
        async fn $row() {
            let (layer, _kept) = $layer;
            leaves_no_reservation(layer.reject(as_response(as_number)), REFUSED).await;
        }
    )* };
}

fn full_bulkhead() -> (BulkheadLayer, bulkhead::Permit) {
    let layer = BulkheadLayer::new(bulkhead::Config::new().max_concurrent(1)).unwrap();
    let permit = layer.handle().try_acquire().unwrap();
    (layer, permit)
}

fn spent_limiter(config: rate_limit::Config) -> RateLimitLayer {
    let layer = RateLimitLayer::new(config.queue(0)).unwrap();
    layer.handle().try_acquire(1).unwrap();
    layer
}

fn one() -> rate_limit::Config {
    rate_limit::Config::new().max_tokens(1)
}

fn breaker() -> CircuitBreakerLayer {
    let config = circuit_breaker::Config::new().consecutive_failures(1).open_for(ms(10));
    let layer = CircuitBreakerLayer::new(config).unwrap();
    layer.handle().try_acquire().unwrap().failure();
    layer
}

refusing! {
    a_full_bulkhead_leaves_the_inner_permit_free => full_bulkhead();
    a_full_bulkhead_with_a_full_queue_leaves_the_inner_permit_free => {
        let (layer, permit) = full_bulkhead();
        (layer.queued(), permit)
    };
    a_spent_token_bucket_leaves_the_inner_permit_free => (spent_limiter(one()), ());
    a_spent_fixed_window_leaves_the_inner_permit_free =>
        (spent_limiter(one().fixed_window(1, ms(100))), ());
    a_spent_sliding_window_leaves_the_inner_permit_free =>
        (spent_limiter(one().sliding_window(1, ms(100))), ());
    a_spent_limiter_with_a_full_queue_leaves_the_inner_permit_free =>
        (spent_limiter(one()).queued(), ());
    an_open_circuit_leaves_the_inner_permit_free => (breaker(), ());
    a_circuit_with_its_probe_taken_leaves_the_inner_permit_free => {
        let layer = breaker();
        tokio::time::advance(ms(10)).await;
        let probe = layer.handle().try_acquire().unwrap();
        (layer, probe)
    };
    a_circuit_forced_open_leaves_the_inner_permit_free => {
        let layer = CircuitBreakerLayer::default();
        layer.handle().force_open();
        (layer, ())
    };
}
