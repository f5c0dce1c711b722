//! seatbelt, through its interface for tower. Every layer of it boxes its response future, and it
//! needs its own clock, driven by a task.

use std::time::Duration;

use seatbelt::breaker::Breaker;
use seatbelt::fallback::Fallback;
use seatbelt::retry::{Backoff, Retry};
use seatbelt::timeout::Timeout;
use seatbelt::{RecoveryInfo, ResilienceContext};
use tick::Clock;
use tower::Layer;

use crate::guarded::Shared;
use crate::workload::Failure;

type Result = std::result::Result<u64, Failure>;

fn context() -> ResilienceContext<u64, Result> {
    ResilienceContext::new(Clock::new_tokio())
}

fn recovery(result: &Result) -> RecoveryInfo {
    if result.is_ok() { RecoveryInfo::never() } else { RecoveryInfo::retry() }
}

/// Opens for an hour when `share` of at least `calls` calls in `window` failed.
pub fn time_window<S: Shared + Sync>(
    inner: S,
    window: Duration,
    calls: u32,
    share: f32,
) -> Breaker<u64, Result, S> {
    Breaker::layer("breaker", &context())
        .recovery_with(|result, _| recovery(result))
        .rejected_input_error(|_, _| Failure::ByPeer)
        .failure_threshold(share)
        .min_throughput(calls)
        .sampling_duration(window)
        .break_duration(Duration::from_secs(3600))
        .layer(inner)
}

pub fn retry<S: Shared + Sync>(inner: S) -> Retry<u64, Result, S> {
    Retry::layer("retry", &context())
        .clone_input()
        .recovery_with(|result, _| recovery(result))
        .max_retry_attempts(2)
        .backoff(Backoff::Constant)
        .base_delay(Duration::ZERO)
        .use_jitter(false)
        .layer(inner)
}

pub fn time_limit<S: Shared + Sync>(inner: S, limit: Duration) -> Timeout<u64, Result, S> {
    let layer = Timeout::layer("timeout", &context()).timeout_error(|_| Failure::Late);
    layer.timeout(limit).layer(inner)
}

pub fn fallback<S: Shared + Sync>(inner: S) -> Fallback<u64, Result, S> {
    let layer =
        Fallback::layer("fallback", &context()).should_fallback(std::result::Result::is_err);
    layer.fallback(|_, _| Ok(7)).layer(inner)
}
