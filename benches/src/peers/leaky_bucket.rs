//! leaky-bucket: `try_acquire` before the call.

use std::sync::Arc;
use std::time::Duration;

use leaky_bucket::RateLimiter;
use tower::Service;

use super::gate::Gate;
use crate::workload::Failure;

pub fn limiter(refill: usize, interval: Duration, max: usize) -> RateLimiter {
    RateLimiter::builder().refill(refill).interval(interval).max(max).initial(max).build()
}

pub fn leaky_bucket<S>(
    inner: S,
    limiter: RateLimiter,
) -> impl Service<u64, Response = u64, Error = Failure, Future: Send> + Clone + Send + 'static
where
    S: Service<u64, Response = u64, Error = Failure, Future: Send> + Clone + Send + 'static,
{
    let limiter = Arc::new(limiter);
    Gate { inner, ask: move |_| limiter.try_acquire(1) }
}
