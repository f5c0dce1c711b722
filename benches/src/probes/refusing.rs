//! The time of a refusal, per call, on a runtime that drives timers: the median, and the slowest of
//! a thousand. Each time includes two reads of the clock, which "nothing" measures alone.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tower::Service;

use super::{FULL, OPEN, finding, nanos, one_thread, time};
use crate::patterns::bulkhead::full;
use crate::patterns::circuit_breaker::{an_hour, buttress, opened};
use crate::patterns::{BUTTRESS, FLOOR};
use crate::peers::recloser::Reclosing;
use crate::peers::tokio::Permits;
use crate::peers::{
    FAILSAFE, RECLOSER, SEATBELT, TOKIO, TOWER, TOWER_RESILIENCE, failsafe, seatbelt,
    tower as peer_tower, tower_resilience,
};
use crate::subject::consume;
use crate::workload::{Failure, Hangs, Obeys, Succeeds, immediate};

const CALLS: usize = 500_000;
const PATIENCE: Duration = Duration::from_secs(1);
const NOTHING: &str = "nothing (the clock)";

/// A service that only refuses.
#[derive(Clone)]
struct Refuses;

immediate!(Refuses, |_, _| Err(Failure::Full));

/// Times as many calls as fit, and at least a few.
async fn latencies<S: Service<u64, Response = u64>>(mut service: S) -> Vec<f64> {
    let began = Instant::now();
    let mut taken = Vec::with_capacity(CALLS);
    while taken.len() < CALLS && (began.elapsed() < PATIENCE || taken.len() < 100) {
        let begin = Instant::now();
        let refused = match poll_fn(|cx| service.poll_ready(cx)).await {
            Ok(()) => !consume(service.call(1).await),
            Err(_) => true,
        };
        taken.push(nanos(begin.elapsed()));
        assert!(refused, "a call got through where every one is refused");
    }
    taken
}

/// Prints the times. The target of a bulkhead uses the median, the target of a breaker the slow
/// one.
fn report(probe: &str, candidate: &str, mut taken: Vec<f64>) {
    taken.sort_by(f64::total_cmp);
    let at = |share: f64| taken[((taken.len() - 1) as f64 * share) as usize];
    let (half, slow) = (at(0.5), at(0.999));
    let value = if probe == FULL { half } else { slow };
    finding(probe, candidate, value, &format!("p50 {}, p99.9 {}", time(half), time(slow)));
}

/// Two tasks on two threads, each with a clone.
fn on_two<S>(candidate: &str, make: impl FnOnce() -> S)
where
    S: Service<u64, Response = u64, Error: Send, Future: Send> + Clone + Send + 'static,
{
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let service = make();
    let tasks = [(); 2].map(|()| runtime.spawn(latencies(service.clone())));
    let taken = tasks.into_iter().flat_map(|task| runtime.block_on(task).expect("a task failed"));
    report(OPEN, candidate, taken.collect());
}

fn open() {
    on_two(NOTHING, || Refuses);
    on_two(BUTTRESS, || opened(buttress(an_hour(), Obeys)));
    on_two(FAILSAFE, || opened(failsafe::consecutive(Obeys)));
    on_two(RECLOSER, || opened(Reclosing::new(Obeys, 5, 0.5)));
    let window = Duration::from_secs(10);
    on_two(SEATBELT, || opened(seatbelt::time_window(Obeys, window, 5, 0.5)));
    on_two(TOWER_RESILIENCE, || opened(tower_resilience::consecutive(Obeys)));
}

fn bulkhead<S: Service<u64, Response = u64>>(candidate: &str, service: S) {
    report(FULL, candidate, one_thread().block_on(latencies(service)));
}

pub fn run() {
    open();
    bulkhead(NOTHING, Refuses);
    bulkhead(BUTTRESS, full());
    bulkhead(FLOOR, crate::floors::bulkhead::Bulkhead::new(Succeeds, 0));
    bulkhead(TOKIO, Permits::new(Succeeds, 0));
    bulkhead(TOWER, peer_tower::full(Succeeds));
    bulkhead("tower-resilience behind LoadShed", tower_resilience::full_bulkhead(Succeeds));
    // Its own refusal. The first call takes the permit and keeps it.
    let taken = one_thread().block_on(async {
        let mut service = tower_resilience::bulkhead(Hangs, 1);
        poll_fn(|cx| service.poll_ready(cx)).await.expect("ready");
        let _holds = tokio::spawn(service.call(0));
        tokio::task::yield_now().await;
        latencies(service).await
    });
    report(FULL, TOWER_RESILIENCE, taken);
}
