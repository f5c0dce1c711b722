//! The time of three attempts immediately after each other.

use std::future::poll_fn;
use std::time::{Duration, Instant};

use buttress::retry::{Backoff, Config, RetryLayer};
use tower::{Layer, Service};

use super::{ZERO_BACKOFF, finding, nanos, one_thread, time};
use crate::patterns::BUTTRESS;
use crate::peers::{
    BACKON, SEATBELT, TOWER, TOWER_RESILIENCE, backon, seatbelt, tower as peer_tower,
    tower_resilience,
};
use crate::subject::consume;
use crate::workload::{FAIL, Obeys};

const PATIENCE: Duration = Duration::from_millis(500);
/// The number of calls per read of the clock.
const BATCH: u32 = 50;

fn probe<S: Service<u64, Response = u64>>(candidate: &str, make: impl FnOnce() -> S) {
    let each = one_thread().block_on(async {
        let mut service = make();
        let (mut calls, begin) = (0, Instant::now());
        while begin.elapsed() < PATIENCE {
            for _ in 0..BATCH {
                if poll_fn(|cx| service.poll_ready(cx)).await.is_ok() {
                    assert!(!consume(service.call(FAIL).await), "every attempt fails");
                }
            }
            calls += BATCH;
        }
        nanos(begin.elapsed()) / f64::from(calls)
    });
    finding(ZERO_BACKOFF, candidate, each, &time(each));
}

pub fn run() {
    probe(BUTTRESS, || {
        RetryLayer::new(Config::new().backoff(Backoff::none())).expect("valid").layer(Obeys)
    });
    probe(BACKON, || backon::retry(Obeys));
    probe(SEATBELT, || seatbelt::retry(Obeys));
    probe(TOWER, || peer_tower::retry(Obeys));
    probe(TOWER_RESILIENCE, || tower_resilience::retry(Obeys));
}
