//! Whether the cost of a time window grows with the number of calls in it.

use std::time::{Duration, Instant};

use tower::Service;

use super::{WINDOW, finding, nanos, one_thread, time};
use crate::patterns::BUTTRESS;
use crate::patterns::circuit_breaker::{buttress, by_time};
use crate::peers::{FAILSAFE, SEATBELT, TOWER_RESILIENCE, failsafe, seatbelt, tower_resilience};
use crate::spread::median;
use crate::subject::call_many;
use crate::workload::Succeeds;

/// Longer than the probe, so that all calls stay in it.
const LENGTH: Duration = Duration::from_secs(600);
const INSTANCES: usize = 101;
/// Few calls, so that they hardly add to the calls in the window.
const TIMED: u64 = 20;

/// Returns the cost of a call in a window that holds `calls`.
#[inline(never)]
fn cost<S: Service<u64, Response = u64>>(make: &impl Fn() -> S, calls: u64) -> f64 {
    let mut service = make();
    call_many(&mut service, calls);
    let begin = Instant::now();
    call_many(&mut service, TIMED);
    nanos(begin.elapsed()) / TIMED as f64
}

fn probe<S: Service<u64, Response = u64>>(candidate: &str, make: impl Fn() -> S) {
    let pairs = (0..INSTANCES).map(|_| (cost(&make, 100), cost(&make, 10_000)));
    let (few, many): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let (few, many) = (median(few).expect("instances"), median(many).expect("instances"));
    let text = format!("{:.2}x ({} over {})", many / few, time(many), time(few));
    finding(WINDOW, candidate, many / few, &text);
}

pub fn run() {
    let runtime = one_thread();
    let _entered = runtime.enter();
    probe(BUTTRESS, || buttress(by_time(LENGTH), Succeeds));
    probe(FAILSAFE, || failsafe::time_window(Succeeds, LENGTH, 0.5));
    probe(SEATBELT, || seatbelt::time_window(Succeeds, LENGTH, 100, 0.5));
    probe(TOWER_RESILIENCE, || tower_resilience::time_window(Succeeds, LENGTH, 0.5));
}
