//! Six layers at once: fallback > rate limit > breaker > bulkhead > retry > time limit.

use std::time::Duration;

use buttress::bulkhead::{self, BulkheadLayer};
use buttress::circuit_breaker::CircuitBreakerLayer;
use buttress::fallback::FallbackLayer;
use buttress::rate_limit::{self, RateLimitLayer};
use buttress::retry::RetryLayer;
use buttress::time_limit::{self, TimeLimitLayer};
use tower::ServiceBuilder;

use super::{BARE, BUTTRESS, FLOOR};
use crate::floors;
use crate::subject::Meter;
use crate::workload::Succeeds;

const NOTHING: &str = "no layer";
const SIX: &str = "six layers: admitted";

const LIMIT: Duration = Duration::from_secs(5);
const PLENTY: u32 = 1_000_000_000;

pub fn bare(meter: &mut impl Meter) {
    meter.shared(NOTHING, BARE, || Succeeds);
}

pub fn visit(meter: &mut impl Meter) {
    meter.shared(SIX, BUTTRESS, || {
        let rate = rate_limit::Config::new().max_tokens(PLENTY);
        let rate = rate.refill(10_000_000, Duration::from_secs(1));
        ServiceBuilder::new()
            .layer(FallbackLayer::value(7))
            .layer(RateLimitLayer::new(rate).expect("valid"))
            .layer(CircuitBreakerLayer::default())
            .layer(BulkheadLayer::new(bulkhead::Config::new().max_concurrent(100)).expect("valid"))
            .layer(RetryLayer::default())
            .layer(TimeLimitLayer::new(time_limit::Config::new(LIMIT)).expect("valid"))
            .service(Succeeds)
    });
    meter.shared(SIX, FLOOR, || {
        let service = floors::time_limit::TimeLimit::new(Succeeds, LIMIT);
        let service = floors::retry::Retry::new(service);
        let service = floors::bulkhead::Bulkhead::new(service, 100);
        let service =
            floors::circuit_breaker::Breaker::<_, floors::circuit_breaker::Streak>::new(service);
        let service =
            floors::rate_limit::RateLimit::new(service, Duration::from_nanos(100), PLENTY.into());
        floors::fallback::Fallback::new(service, 7)
    });
}
