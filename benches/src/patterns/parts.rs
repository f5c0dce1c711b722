//! The parts of layers, one at a time around the same service. They show how much of a cost is an
//! unavoidable part.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::hint::black_box;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use buttress::Clock;
use tower::Service;

use super::BARE;
use crate::row::Row;
use crate::subject::Meter;
use crate::workload::{Failure, Succeeds};

const ROW: Row = Row::all("parts: a call");
pub const CLOCK: &str = "bare, and nanoseconds by the clock";
pub const ARC: &str = "bare, and an `Arc` cloned and dropped";
pub const LOCK: &str = "bare, and a mutex locked and unlocked";
pub const HASH: &str = "bare, and SipHash of a word";

pub fn visit(meter: &mut impl Meter) {
    meter.shared(ROW, BARE, || Succeeds);
    let (clock, anchor) = (Clock::default(), Clock::default().now());
    meter.shared(ROW, CLOCK, move || {
        let clock = clock.clone();
        With(move || clock.now().saturating_duration_since(anchor).as_nanos() as u64, Succeeds)
    });
    meter.shared(ROW, ARC, || {
        let shared = Arc::new(1);
        With(move || *black_box(shared.clone()), Succeeds)
    });
    meter.shared(ROW, LOCK, || {
        let shared = Arc::new(Mutex::new(1));
        With(move || *shared.lock().expect("no holder panics"), Succeeds)
    });
    meter.shared(ROW, HASH, || {
        let state = RandomState::new();
        With(move || state.hash_one(black_box(1u64)), Succeeds)
    });
}

/// Runs a part before the bare service. The compiler cannot predict its result.
#[derive(Clone)]
struct With<F>(F, Succeeds);

impl<F: Fn() -> u64> Service<u64> for With<F> {
    type Response = u64;
    type Error = Failure;
    type Future = <Succeeds as Service<u64>>::Future;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.1.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        black_box((self.0)());
        self.1.call(request)
    }
}
