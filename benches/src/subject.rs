//! The subject of a measurement: one candidate doing the work of one row.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tower::Service;

use crate::row::Row;

/// A visitor of every row of every pattern that measures each candidate.
pub trait Meter {
    /// Returns the length of the time windows in the rows that have one.
    fn window(&self) -> Duration {
        Duration::from_secs(10)
    }

    /// Measures a candidate that several tasks can share by clones. Default: like
    /// [`single`](Self::single), for a meter that runs one task.
    ///
    /// `make` builds it, outside of the measurement, in the state that `row` names.
    fn shared<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Service<u64, Response = u64> + Clone + Send + 'static,
        S::Future: Send,
    {
        self.single(row, candidate, make);
    }

    /// Measures a candidate that is not `Clone`, and so cannot be shared without a lock or a
    /// separate task.
    fn single<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Service<u64, Response = u64> + 'static;

    /// Measures making and dropping a clone.
    fn cloned<S>(&mut self, row: Row, candidate: &'static str, make: impl Fn() -> S + 'static)
    where
        S: Clone + Send + 'static;
}

/// Consumes a result as a caller does, and returns whether it is an answer. Showing the compiler
/// the whole result would add a copy that no caller makes.
#[inline(always)]
pub fn consume<E>(result: Result<u64, E>) -> bool {
    match result {
        Ok(answer) => {
            black_box(answer);
            true
        }
        Err(error) => {
            black_box(&error);
            false
        }
    }
}

/// Makes one call: ready, call, poll to the end. Returns whether it succeeded.
#[inline(always)]
fn call<S>(service: &mut S, request: u64, cx: &mut Context<'_>) -> bool
where
    S: Service<u64, Response = u64>,
{
    while service.poll_ready(cx).is_pending() {}
    let mut future = pin!(service.call(black_box(request)));
    loop {
        if let Poll::Ready(result) = future.as_mut().poll(cx) {
            return consume(result);
        }
    }
}

/// Makes one call, to bring a service into a state. Returns whether it succeeded.
pub fn call_once<S: Service<u64, Response = u64>>(service: &mut S, request: u64) -> bool {
    call(service, request, &mut Context::from_waker(Waker::noop()))
}

/// Makes `calls` calls one after the other, in one context as a task has one. Returns how many
/// succeeded.
#[inline(always)]
pub fn call_many<S: Service<u64, Response = u64>>(service: &mut S, calls: u64) -> u64 {
    let mut cx = Context::from_waker(Waker::noop());
    (0..calls).map(|request| u64::from(call(service, request, &mut cx))).sum()
}

/// Makes clones, each dropped immediately.
#[inline(always)]
pub fn clone_many<S: Clone>(service: &S, clones: u64) -> u64 {
    for _ in 0..clones {
        drop(black_box(black_box(service).clone()));
    }
    clones
}

/// Makes calls as [`call_many`] does. Stops the program if a call waits for a wake that cannot
/// come, or if the wrong calls succeed.
///
/// # Panics
///
/// If the candidate does not do what the row says.
pub fn check<S: Service<u64, Response = u64>>(service: &mut S, row: Row, candidate: &str) {
    const CALLS: u64 = 300;
    const PATIENCE: usize = 1000;
    let waits = || panic!("{candidate} waits in \"{}\", where nothing will wake it", row.name);
    let mut cx = Context::from_waker(Waker::noop());
    let mut succeeded = 0;
    for request in 0..CALLS {
        if !(0..PATIENCE).any(|_| service.poll_ready(&mut cx).is_ready()) {
            waits();
        }
        let mut future = pin!(service.call(request));
        let mut result = (0..PATIENCE).map(|_| future.as_mut().poll(&mut cx));
        match result.find(Poll::is_ready) {
            Some(Poll::Ready(result)) => succeeded += u64::from(consume(result)),
            _ => waits(),
        }
    }
    row.expect(candidate, CALLS, succeeded);
}

/// Makes calls. The same code runs for the warm-up and the measurement, and no caller changes it.
#[inline(never)]
pub fn run<S: Service<u64, Response = u64>>(service: &mut S, calls: u64) -> u64 {
    call_many(service, calls)
}

/// Makes clones, as [`run`] makes calls.
#[inline(never)]
pub fn run_clones<S: Clone>(service: &S, clones: u64) -> u64 {
    clone_many(service, clones)
}
