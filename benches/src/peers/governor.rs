//! governor: `check` before the call. Its refusal is dropped unread: computing the wait would be
//! one more clock read.

use std::num::NonZeroU32;
use std::sync::Arc;

use governor::clock::DefaultClock;
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::{HashMapStateStore, KeyedStateStore};
use governor::{DefaultDirectRateLimiter, DefaultKeyedRateLimiter, Quota, RateLimiter};

use super::gate::Gate;
use crate::guarded::{Guarded, Shared};

/// Returns a quota with this rate and burst.
pub fn quota(per_second: u32, burst: u32) -> Quota {
    let number = |number| NonZeroU32::new(number).expect("not zero");
    Quota::per_second(number(per_second)).allow_burst(number(burst))
}

pub fn direct<S: Shared>(inner: S, quota: Quota) -> impl Shared {
    let limiter = Arc::new(DefaultDirectRateLimiter::direct(quota));
    Guarded { inner, guard: Gate(move |_| limiter.check().is_ok()) }
}

pub type DashMapLimiter = DefaultKeyedRateLimiter<u64>;
pub type HashMapLimiter = RateLimiter<u64, HashMapStateStore<u64>, DefaultClock, NoOpMiddleware>;

pub fn keyed<S, M>(
    inner: S,
    limiter: RateLimiter<u64, M, DefaultClock, NoOpMiddleware>,
    key: fn(&u64) -> u64,
) -> impl Shared
where
    S: Shared,
    M: KeyedStateStore<u64> + Send + Sync + 'static,
{
    let limiter = Arc::new(limiter);
    Guarded { inner, guard: Gate(move |request| limiter.check_key(&key(&request)).is_ok()) }
}
