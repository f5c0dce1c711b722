//! What is measured: one candidate doing the work of one row.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use tower::Service;

/// Goes through every row of every pattern and measures something of each candidate.
pub trait Meter {
    /// A candidate that several tasks can share by clones.
    ///
    /// `make` builds it, outside of what is measured, in the state that `row` names.
    fn shared<S>(&mut self, row: &'static str, candidate: &'static str, make: impl Fn() -> S)
    where
        S: Service<u64, Response = u64> + Clone + Send + 'static,
        S::Future: Send;

    /// A candidate that is not `Clone`, and so cannot be shared without a lock or a task of its own.
    fn single<S>(&mut self, row: &'static str, candidate: &'static str, make: impl Fn() -> S)
    where
        S: Service<u64, Response = u64>;
}

/// One call, as an executor makes it: ready, call, poll to the end. Whether it succeeded.
#[inline(always)]
pub fn call_once<S: Service<u64, Response = u64>>(service: &mut S, request: u64) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    while service.poll_ready(&mut cx).is_pending() {}
    let mut future = pin!(service.call(black_box(request)));
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(&mut cx) {
            return black_box(result).is_ok();
        }
    }
}

/// `calls` calls one after the other; how many succeeded.
#[inline(always)]
pub fn call_many<S: Service<u64, Response = u64>>(service: &mut S, calls: u64) -> u64 {
    (0..calls).map(|request| u64::from(call_once(service, request))).sum()
}
