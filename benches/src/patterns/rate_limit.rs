//! Rows of the rate limiter.

use std::time::Duration;

use ::governor::RateLimiter;
use buttress::AsError;
use buttress::rate_limit::{Config, KeyedRateLimitLayer, OneToken, RateLimit, RateLimitLayer};
use tower::load_shed::LoadShed;
use tower::{Layer, Service};

use super::{BUTTRESS, FLOOR};
use crate::floors;
use crate::peers::{
    GOVERNOR, LEAKY_BUCKET, TOWER, TOWER_RESILIENCE, governor, leaky_bucket, tower as peer_tower,
    tower_resilience,
};
use crate::row::Row;
use crate::subject::{Meter, call_once};
use crate::workload::{FailsEveryOther, Failure, Succeeds};

pub const ADMITTED: Row = Row::all("rate limit: admitted");
pub const UNEVEN: Row = Row::all("rate limit: admitted, 3 000 000 per second");
pub const FAILED: Row = Row::every_other("rate limit: admitted, every other call fails");
pub const REFUSED: Row = Row::none("rate limit: refused");
pub const KEYED: Row = Row::all("rate limit: admitted, one of 1024 keys");

pub const NOTES: &[&str] = &[
    "Rate limit: governor reads its own clock (quanta, the CPU's counter), the others read the \
     system's. For a refusal governor does not compute the wait; buttress and the floor report \
     it.",
    "Rate limit: tower's is not Clone, so it has no figure for two threads. For refusals it is \
     behind tower's LoadShed, because alone it only waits. tower-resilience's fixed window lets \
     twice the limit pass across the border of two windows.",
    "Rate limit, 3 000 000 per second: a token takes no whole number of nanoseconds, as with \
     most rates. governor rounds it to 333 ns. The rate of the row above divides evenly.",
    "Rate limit by key: governor never forgets a key by itself; buttress holds at most the \
     configured number. tower, tower-resilience and leaky-bucket have no keys.",
];

/// More tokens than any measurement takes.
pub const PLENTY: u32 = 1_000_000_000;
pub const PER_SECOND: u32 = 10_000_000;
const UNEVEN_PER_SECOND: u32 = 3_000_000;
const KEYS: u64 = 1024;
const HOUR: Duration = Duration::from_secs(3600);
const SECOND: Duration = Duration::from_secs(1);

pub fn visit(meter: &mut impl Meter) {
    admitted(meter, ADMITTED, Succeeds);
    uneven(meter);
    admitted(meter, FAILED, FailsEveryOther);

    meter.shared(REFUSED, BUTTRESS, || {
        emptied(buttress(Config::new().max_tokens(1).refill(1, HOUR), Succeeds))
    });
    meter.shared(REFUSED, FLOOR, || emptied(floors::rate_limit::RateLimit::new(Succeeds, HOUR, 1)));
    meter.shared(REFUSED, GOVERNOR, || {
        let quota = ::governor::Quota::with_period(HOUR).expect("not zero");
        emptied(governor::direct(Succeeds, quota))
    });
    meter.shared(REFUSED, LEAKY_BUCKET, || {
        emptied(leaky_bucket::leaky_bucket(Succeeds, leaky_bucket::limiter(1, HOUR, 1)))
    });
    meter.single(REFUSED, TOWER, || {
        emptied(LoadShed::new(peer_tower::rate_limit(Succeeds, 1, HOUR)))
    });
    meter.shared(REFUSED, TOWER_RESILIENCE, || {
        emptied(tower_resilience::token_bucket(Succeeds, 1, HOUR, 1, Duration::ZERO))
    });

    meter.shared(KEYED, BUTTRESS, || {
        let layer = KeyedRateLimitLayer::new(plenty(), 4096, KEY).expect("valid");
        with_every_key(layer.layer(Succeeds))
    });
    meter.shared(KEYED, GOVERNOR, || {
        let limiter = governor::DashMapLimiter::dashmap(governor::quota(PER_SECOND, PLENTY));
        with_every_key(governor::keyed(Succeeds, limiter, KEY))
    });
    meter.shared(KEYED, "governor, one locked map", || {
        let limiter: governor::HashMapLimiter =
            RateLimiter::hashmap(governor::quota(PER_SECOND, PLENTY));
        with_every_key(governor::keyed(Succeeds, limiter, KEY))
    });
}

/// The rows with enough tokens for all calls.
fn admitted<S>(meter: &mut impl Meter, row: Row, inner: S)
where
    S: Service<u64, Response = u64, Error = Failure, Future: Send> + Copy + Send + 'static,
{
    let wide = (PER_SECOND as usize, PLENTY as usize);
    meter.shared(row, BUTTRESS, move || buttress(plenty(), inner));
    meter.shared(row, FLOOR, move || {
        floors::rate_limit::RateLimit::new(inner, Duration::from_nanos(100), PLENTY.into())
    });
    meter.shared(row, GOVERNOR, move || {
        governor::direct(inner, governor::quota(PER_SECOND, PLENTY))
    });
    meter.shared(row, LEAKY_BUCKET, move || {
        leaky_bucket::leaky_bucket(inner, leaky_bucket::limiter(wide.0, SECOND, wide.1))
    });
    meter.single(row, TOWER, move || peer_tower::rate_limit(inner, PLENTY.into(), HOUR));
    meter.shared(row, TOWER_RESILIENCE, move || {
        tower_resilience::token_bucket(inner, wide.0, SECOND, wide.1, Duration::ZERO)
    });
    meter.shared(row, "tower-resilience, fixed window", move || {
        tower_resilience::fixed_window(inner, wide.1, HOUR, Duration::ZERO)
    });
}

/// A token every 333 1/3 ns, which is not a whole number of nanoseconds.
fn uneven(meter: &mut impl Meter) {
    let per_second = UNEVEN_PER_SECOND as usize;
    meter.shared(UNEVEN, BUTTRESS, || {
        buttress(Config::new().max_tokens(PLENTY).refill(UNEVEN_PER_SECOND, SECOND), Succeeds)
    });
    meter.shared(UNEVEN, GOVERNOR, || {
        governor::direct(Succeeds, governor::quota(UNEVEN_PER_SECOND, PLENTY))
    });
    meter.shared(UNEVEN, LEAKY_BUCKET, move || {
        let limiter = leaky_bucket::limiter(per_second, SECOND, PLENTY as usize);
        leaky_bucket::leaky_bucket(Succeeds, limiter)
    });
    meter.shared(UNEVEN, TOWER_RESILIENCE, move || {
        let wide = PLENTY as usize;
        tower_resilience::token_bucket(Succeeds, per_second, SECOND, wide, Duration::ZERO)
    });
}

const KEY: fn(&u64) -> u64 = |request| request % KEYS;

fn plenty() -> Config {
    Config::new().max_tokens(PLENTY).refill(PER_SECOND, SECOND)
}

fn buttress<S>(config: Config, inner: S) -> RateLimit<S, AsError, OneToken> {
    RateLimitLayer::new(config).expect("valid").layer(inner)
}

/// Uses every key once, so that no measured key is new.
fn with_every_key<S: Service<u64, Response = u64>>(mut service: S) -> S {
    assert!((0..KEYS).all(|key| call_once(&mut service, key)), "there are tokens for every key");
    service
}

/// Takes the only token.
fn emptied<S: Service<u64, Response = u64>>(mut service: S) -> S {
    assert!(call_once(&mut service, 0), "the first call is within the limit");
    service
}
