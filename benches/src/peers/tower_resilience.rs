//! tower-resilience. Every layer of it boxes its response future.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use tower::load_shed::LoadShed;
use tower::{Layer, Service};
use tower_resilience_bulkhead::{Bulkhead, BulkheadLayer};
use tower_resilience_cache::{Cache, CacheLayer};
use tower_resilience_circuitbreaker::{
    CircuitBreaker, CircuitBreakerLayer, DefaultClassifier, SlidingWindowType,
};
use tower_resilience_fallback::{Fallback, FallbackLayer};
use tower_resilience_ratelimiter::{RateLimiter, RateLimiterLayer};
use tower_resilience_retry::{Retry, RetryBudgetBuilder, RetryLayer};
use tower_resilience_timelimiter::{FixedTimeout, TimeLimiter, TimeLimiterLayer};

use crate::patterns::idempotency::{Asked, Find, KEPT, LIFETIME};
use crate::patterns::rate_limit::{PER_SECOND, PLENTY};
use crate::patterns::time_limit::LIMIT;

pub const HOUR: Duration = Duration::from_secs(3600);

pub type Breaker<S> = CircuitBreaker<S, DefaultClassifier>;

pub fn consecutive<S>(inner: S) -> Breaker<S> {
    let layer = CircuitBreakerLayer::builder().consecutive_failures(5).wait_duration_in_open(HOUR);
    layer.build().expect("valid").layer(inner)
}

/// Counts all calls since it closed: its window of calls does not slide.
pub fn count_window<S>(inner: S, share: f64) -> Breaker<S> {
    let layer = CircuitBreakerLayer::builder().failure_rate_threshold(share);
    let layer = layer.sliding_window_size(100).minimum_number_of_calls(100);
    layer.wait_duration_in_open(HOUR).build().expect("valid").layer(inner)
}

pub fn time_window<S>(inner: S, window: Duration, share: f64) -> Breaker<S> {
    let layer = CircuitBreakerLayer::builder().failure_rate_threshold(share);
    let layer = layer.sliding_window_type(SlidingWindowType::TimeBased);
    let layer = layer.sliding_window_duration(window).minimum_number_of_calls(100);
    layer.wait_duration_in_open(HOUR).build().expect("valid").layer(inner)
}

/// A bucket of `burst` that fills at `tokens` per `per`. It holds `tokens` in addition to its
/// burst.
pub fn token_bucket<S>(
    inner: S,
    tokens: usize,
    per: Duration,
    burst: usize,
    wait: Duration,
) -> RateLimiter<S> {
    let layer = RateLimiterLayer::builder().limit_for_period(tokens).refresh_period(per);
    let layer = layer.burst_size(burst.saturating_sub(tokens)).timeout_duration(wait);
    layer.build().expect("valid").layer(inner)
}

/// Its default limiter. Twice the limit can pass across the border of two windows.
pub fn fixed_window<S>(inner: S, calls: usize, per: Duration, wait: Duration) -> RateLimiter<S> {
    let layer = RateLimiterLayer::builder().limit_for_period(calls).refresh_period(per);
    layer.timeout_duration(wait).build().expect("valid").layer(inner)
}

pub fn bulkhead<S>(inner: S, calls: usize) -> Bulkhead<S> {
    let layer = BulkheadLayer::builder().max_concurrent_calls(calls).reject_when_full();
    layer.build().expect("valid").layer(inner)
}

/// Waits for a permit in `poll_ready`.
pub fn bulkhead_backpressure<S>(inner: S, calls: usize) -> Bulkhead<S> {
    let layer = BulkheadLayer::builder().max_concurrent_calls(calls).backpressure();
    layer.build().expect("valid").layer(inner)
}

/// Refuses immediately. A refusal of the peer's bulkhead needs a timer.
pub fn full_bulkhead<S>(inner: S) -> LoadShed<Bulkhead<S>>
where
    S: Service<u64, Response: Send, Error: Send, Future: Send> + Clone + Send + 'static,
{
    LoadShed::new(taken(bulkhead_backpressure(inner, 1)))
}

/// Takes the only permit of `bulkhead` forever.
pub fn taken<S>(bulkhead: Bulkhead<S>) -> Bulkhead<S>
where
    S: Service<u64, Response: Send, Error: Send, Future: Send> + Clone + Send + 'static,
{
    let mut other = bulkhead.clone();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(other.poll_ready(&mut cx).is_ready(), "the permit is free");
    std::mem::forget(other);
    bulkhead
}

pub fn retry<S, E>(inner: S) -> Retry<S, u64, u64, E> {
    RetryLayer::builder().max_attempts(3).fixed_backoff(Duration::ZERO).build().layer(inner)
}

pub fn retry_with_budget<S, E>(inner: S) -> Retry<S, u64, u64, E> {
    // The cheaper of its two budgets. It grows with the calls, as the other candidates' budgets do.
    let budget = RetryBudgetBuilder::new().aimd().build().expect("valid");
    RetryLayer::builder().max_attempts(3).budget(budget).build().layer(inner)
}

pub fn time_limit<S>(inner: S, limit: Duration) -> TimeLimiter<S, FixedTimeout> {
    TimeLimiterLayer::builder().timeout_duration(limit).build().layer(inner)
}

pub fn fallback<S, E>(inner: S) -> Fallback<S, u64, u64, E>
where
    E: 'static,
    S: Service<u64, Response = u64, Error = E>,
{
    FallbackLayer::value(7).layer(inner)
}

/// The modes of its six layers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Six {
    /// The same modes as buttress's: a token bucket, and a bulkhead that refuses.
    Alike,
    /// Its cheaper modes: a fixed window, and a bulkhead that makes calls wait.
    Cheaper,
    /// The same modes, and each layer calls an observer.
    Observed,
}

/// Fallback > rate limit > breaker > bulkhead > retry > time limit, with room for `calls`.
pub fn six<S>(
    inner: S,
    calls: usize,
    how: Six,
) -> impl Service<u64, Response = u64, Error: Send + 'static, Future: Send + 'static>
+ Clone
+ Send
+ 'static
where
    S: Service<u64, Response = u64, Error: Send + Sync, Future: Send> + Clone + Send + 'static,
{
    let mut time_limit = TimeLimiterLayer::builder().timeout_duration(LIMIT);
    let mut retry = RetryLayer::builder().max_attempts(3);
    let mut bulkhead = BulkheadLayer::builder().max_concurrent_calls(calls).reject_when_full();
    let mut breaker = CircuitBreakerLayer::builder().consecutive_failures(5);
    let mut rate = RateLimiterLayer::builder().limit_for_period(PER_SECOND as usize);
    rate = rate.refresh_period(Duration::from_secs(1)).burst_size((PLENTY - PER_SECOND) as usize);
    let mut fallback = FallbackLayer::builder().value(7);
    match how {
        Six::Alike => {}
        Six::Cheaper => {
            bulkhead = bulkhead.backpressure();
            rate = RateLimiterLayer::builder().limit_for_period(PLENTY as usize);
            rate = rate.refresh_period(HOUR);
        }
        Six::Observed => {
            time_limit = time_limit.on_success(|_| black_box(()));
            retry = retry.on_success(|_| black_box(()));
            bulkhead = bulkhead.on_call_finished(|_| black_box(()));
            breaker = breaker.on_success(|_| black_box(()));
            rate = rate.on_permit_acquired(|_| black_box(()));
            fallback = fallback.on_event(|_| black_box(()));
        }
    }
    let service = time_limit.build().layer(inner);
    let service = retry.build().layer(service);
    let service = bulkhead.build().expect("valid").layer(service);
    let service = breaker.build().expect("valid").layer(service);
    let service = rate.build().expect("valid").layer(service);
    fallback.build().layer(service)
}

/// Its cache keeps no calls in flight: calls with one key run concurrently.
pub fn cache<S, T: Asked>(inner: S, find: Find<T>) -> Cache<S, u64, Arc<str>, u64>
where
    S: Service<u64, Response = u64>,
{
    CacheLayer::builder()
        .max_size(KEPT)
        .ttl(LIFETIME)
        .key_extractor(move |request: &u64| find(request).into_key())
        .build()
        .expect("valid")
        .layer(inner)
}
