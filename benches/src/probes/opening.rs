//! The consecutive failures that open a circuit after many successes.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tower::Service;

use super::{OPENING, finding};
use crate::patterns::BUTTRESS;
use crate::patterns::circuit_breaker::{buttress, by_count};
use crate::peers::recloser::Reclosing;
use crate::peers::{RECLOSER, TOWER_RESILIENCE, tower_resilience};
use crate::subject::{call_many, call_once};
use crate::workload::{FAIL, Failure, always_ready};

const SUCCESSES: u64 = 100_000;
const PATIENCE: u64 = 1_000_000;

/// Fails on request, and counts the polled calls, because some peers make the call before they
/// refuse it.
#[derive(Clone, Default)]
struct Counts(Arc<AtomicU64>);

struct Counted {
    request: u64,
    counts: Counts,
}

impl Future for Counted {
    type Output = Result<u64, Failure>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        if self.request < FAIL {
            return Poll::Ready(Ok(self.request));
        }
        self.counts.0.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Err(Failure::Broken))
    }
}

always_ready!(Counts -> Counted, |counts, request| Counted { request, counts: counts.clone() });

fn probe<S: Service<u64, Response = u64>>(candidate: &str, make: impl FnOnce(Counts) -> S) {
    let failed = Counts::default();
    let mut service = make(failed.clone());
    assert_eq!(call_many(&mut service, SUCCESSES), SUCCESSES, "{candidate} stays closed");
    let reached = || failed.0.load(Ordering::Relaxed);
    for tried in 1..=PATIENCE {
        call_once(&mut service, FAIL);
        // The call that does not reach the service is refused: the call before it opened the
        // circuit.
        if reached() < tried {
            return finding(OPENING, candidate, reached() as f64, &reached().to_string());
        }
    }
    finding(OPENING, candidate, f64::INFINITY, &format!("more than {PATIENCE}"));
}

pub fn run() {
    probe(BUTTRESS, |inner| buttress(by_count(), inner));
    probe(RECLOSER, |inner| Reclosing::new(inner, 100, 0.5));
    probe(TOWER_RESILIENCE, |inner| tower_resilience::count_window(inner, 0.5));
}
