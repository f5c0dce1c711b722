//! failsafe: queried before the call, and notified after it.

use std::future::Future;
use std::iter::Repeat;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use failsafe::failure_policy::{
    self, ConsecutiveFailures, FailurePolicy, SuccessRateOverTimeWindow,
};
use failsafe::{Config, StateMachine};
use pin_project_lite::pin_project;

use crate::floors::Either;
use crate::guarded::{Guard, Guarded, Inner};
use crate::workload::Failure;

/// The circuit stays open for this time.
const OPEN: Duration = Duration::from_secs(3600);

pub type Failsafe<S, P> = Guarded<S, StateMachine<P, ()>>;

/// Opens after five consecutive failures.
pub fn consecutive<S>(inner: S) -> Failsafe<S, ConsecutiveFailures<Repeat<Duration>>> {
    let policy = failure_policy::consecutive_failures(5, std::iter::repeat(OPEN));
    Guarded { inner, guard: Config::new().failure_policy(policy).build() }
}

/// Opens when `share` of the calls of the last `window` failed.
pub fn time_window<S>(
    inner: S,
    window: Duration,
    share: f64,
) -> Failsafe<S, SuccessRateOverTimeWindow<Repeat<Duration>>> {
    let open = std::iter::repeat(OPEN);
    let policy = failure_policy::success_rate_over_time_window(1.0 - share, 100, window, open);
    Guarded { inner, guard: Config::new().failure_policy(policy).build() }
}

pin_project! {
    pub struct Told<F, P> {
        #[pin]
        future: F,
        machine: StateMachine<P, ()>,
    }
}

impl<F, P> Future for Told<F, P>
where
    F: Future<Output = Result<u64, Failure>>,
    P: FailurePolicy,
{
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        match result {
            Ok(_) => this.machine.on_success(),
            Err(_) => this.machine.on_error(),
        }
        Poll::Ready(result)
    }
}

impl<S: Inner, P: FailurePolicy> Guard<S> for StateMachine<P, ()> {
    type Future = Either<Told<S::Future, P>, Result<u64, Failure>>;

    #[inline]
    fn call(&self, inner: &mut S, request: u64) -> Self::Future {
        if !self.is_call_permitted() {
            return Either::Refused { result: Some(Err(Failure::ByPeer)) };
        }
        Either::Inner { future: Told { future: inner.call(request), machine: self.clone() } }
    }
}
