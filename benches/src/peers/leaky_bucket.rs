//! leaky-bucket: `try_acquire` before the call.

use std::sync::Arc;
use std::time::Duration;

use leaky_bucket::RateLimiter;

use super::gate::Gate;
use crate::guarded::{Guarded, Shared};

pub fn limiter(refill: usize, interval: Duration, max: usize) -> RateLimiter {
    RateLimiter::builder().refill(refill).interval(interval).max(max).initial(max).build()
}

pub fn leaky_bucket<S: Shared>(inner: S, limiter: RateLimiter) -> impl Shared {
    let limiter = Arc::new(limiter);
    Guarded { inner, guard: Gate(move |_| limiter.try_acquire(1)) }
}
