//! A queue with half a second's waiters: the rate at which a limiter with a burst of 1 admits them.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use buttress::rate_limit::{Config, RateLimitLayer};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinSet;
use tower::{Layer, ServiceExt};

use super::{LINE, finding, one_thread};
use crate::patterns::BUTTRESS;
use crate::workload::Succeeds;

const RATES: [u32; 5] = [10, 100, 1_000, 10_000, 100_000];
const SECOND: Duration = Duration::from_secs(1);

fn two_threads() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_time().build().expect("a runtime")
}

/// Returns the reached rate relative to the configured rate. The time counts from the first call:
/// spawned tasks that were not yet polled request no token.
fn reached(runtime: &Runtime, rate: u32) -> f64 {
    let waiters = rate.div_ceil(2).max(5);
    let config = Config::new().max_tokens(1).refill(rate, SECOND).queue(waiters);
    let layer = RateLimitLayer::new(config.max_wait(60 * SECOND)).expect("valid");
    let service = layer.queued().layer(Succeeds);
    let began: Arc<OnceLock<Instant>> = Arc::default();
    let last = runtime.block_on(async {
        let mut calls = JoinSet::new();
        for _ in 0..waiters {
            let (service, began) = (service.clone(), began.clone());
            calls.spawn(async move {
                let _ = began.get_or_init(Instant::now);
                service.oneshot(0).await.expect("a waiter that waits long enough gets a token");
                Instant::now()
            });
        }
        calls.join_all().await.into_iter().max().expect("there are waiters")
    });
    let took = last.duration_since(*began.get().expect("a call was made")).as_secs_f64();
    f64::from(waiters - 1) / f64::from(rate) / took
}

/// Prints the lowest ratio of all rates, on one thread or on two.
pub fn run() {
    let lowest = |runtime: &Runtime| {
        let shares = RATES.map(|rate| (reached(runtime, rate), rate));
        shares.into_iter().min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are rates")
    };
    let (one, two) = (lowest(&one_thread()), lowest(&two_threads()));
    let text = |(share, rate): (f64, u32), threads| format!("{share:.3} at {rate}/s on {threads}");
    let text = format!("{}, {}", text(one, "one thread"), text(two, "two"));
    finding(LINE, BUTTRESS, one.0.min(two.0), &text);
}
