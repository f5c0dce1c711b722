//! Rows of the rate limiter.

use std::time::Duration;

use buttress::AsError;
use buttress::rate_limit::{Config, KeyedRateLimitLayer, OneToken, RateLimit, RateLimitLayer};
use tower::Layer;

use super::{BUTTRESS, FLOOR};
use crate::floors;
use crate::subject::{Meter, call_once};
use crate::workload::Succeeds;

const ADMITTED: &str = "rate limit: admitted";
const REFUSED: &str = "rate limit: refused";
const KEYED: &str = "rate limit: admitted, one of 1024 keys";

/// More tokens than any measurement takes.
const PLENTY: u32 = 1_000_000_000;
const KEYS: u64 = 1024;

pub fn visit(meter: &mut impl Meter) {
    meter.shared(ADMITTED, BUTTRESS, || buttress(plenty()));
    meter.shared(ADMITTED, FLOOR, || {
        floors::rate_limit::RateLimit::new(Succeeds, Duration::from_nanos(100), PLENTY.into())
    });

    meter.shared(REFUSED, BUTTRESS, || {
        let mut service = buttress(Config::new().max_tokens(1).refill(1, HOUR));
        call_once(&mut service, 0);
        service
    });
    meter.shared(REFUSED, FLOOR, || {
        let mut service = floors::rate_limit::RateLimit::new(Succeeds, HOUR, 1);
        call_once(&mut service, 0);
        service
    });

    meter.shared(KEYED, BUTTRESS, || {
        let key: fn(&u64) -> u64 = |request| request % KEYS;
        KeyedRateLimitLayer::new(plenty(), 4096, key).expect("valid").layer(Succeeds)
    });
}

const HOUR: Duration = Duration::from_secs(3600);

fn plenty() -> Config {
    Config::new().max_tokens(PLENTY).refill(10_000_000, Duration::from_secs(1))
}

fn buttress(config: Config) -> RateLimit<Succeeds, AsError, OneToken> {
    RateLimitLayer::new(config).expect("valid").layer(Succeeds)
}
