//! The services that every candidate wraps. They do nothing, so that the measurement shows the
//! layer. The compiler must not know their answer, or it would remove the code of a layer for the
//! other answer.

use std::future::Future;
use std::hint::black_box;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use buttress::{AsRefusal, Error};

/// The error of the services, with room for a refusal of buttress, as the guide recommends.
#[derive(Clone, Debug)]
pub enum Failure {
    /// A layer refused.
    Refused(Error),
    /// The service itself failed.
    Broken,
    /// A floor's limiter or circuit refused.
    RetryIn(Duration),
    /// A floor's bulkhead refused.
    Full,
    /// A floor's time limit passed.
    Late,
    /// A peer without its own error refused.
    ByPeer,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("failed")
    }
}

impl std::error::Error for Failure {}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl AsRefusal for Failure {
    fn as_refusal(&self) -> Option<&Error> {
        match self {
            Self::Refused(error) => Some(error),
            _ => None,
        }
    }
}

/// A request that is never made, and would fail.
const NEVER: u64 = u64::MAX;

/// Makes a service that is always ready. Each call is the future that `$call` makes.
macro_rules! always_ready {
    ($name:ident -> $future:ty, $call:expr) => {
        impl tower::Service<u64> for $name {
            type Response = u64;
            type Error = $crate::workload::Failure;
            type Future = $future;

            #[inline]
            fn poll_ready(
                &mut self,
                _: &mut std::task::Context<'_>,
            ) -> std::task::Poll<Result<(), Self::Error>> {
                std::task::Poll::Ready(Ok(()))
            }

            #[inline]
            fn call(&mut self, request: u64) -> Self::Future {
                let call: fn(&Self, u64) -> $future = $call;
                call(self, request)
            }
        }
    };
}
pub(crate) use always_ready;

/// Makes a service that is always ready and answers immediately.
macro_rules! immediate {
    ($name:ident, $answer:expr) => {
        $crate::workload::always_ready!(
            $name -> std::future::Ready<Result<u64, $crate::workload::Failure>>,
            |service, request| {
                let answer: fn(&Self, u64) -> Result<u64, $crate::workload::Failure> = $answer;
                std::future::ready(answer(service, request))
            }
        );
    };
}
pub(crate) use immediate;

/// Answers every request with its own value, immediately.
#[derive(Clone, Copy, Debug)]
pub struct Succeeds;

immediate!(Succeeds, |_: &Self, request| {
    if request == NEVER { Err(Failure::Broken) } else { Ok(request) }
});

/// Fails every other request, immediately.
#[derive(Clone, Copy, Debug)]
pub struct FailsEveryOther;

immediate!(FailsEveryOther, |_: &Self, request| {
    // Evaluated each time, so that three attempts are three.
    if black_box(request).is_multiple_of(2) { Ok(request) } else { Err(Failure::Broken) }
});

/// Fails the last of every hundred requests immediately.
#[derive(Clone, Copy, Debug)]
pub struct FailsOneInHundred;

immediate!(FailsOneInHundred, |_: &Self, request| {
    // Evaluated each time, so that three attempts are three.
    if black_box(request) % 100 == 99 { Err(Failure::Broken) } else { Ok(request) }
});

/// Succeeds for requests below 2^32 and fails the others, to bring a breaker into a state.
#[derive(Clone, Debug)]
pub struct Obeys;

/// Answers this number of calls, over all clones, and fails the rest.
#[derive(Clone, Debug)]
pub struct FailsAfter(pub Arc<AtomicU64>);

immediate!(FailsAfter, |service: &Self, request| {
    let left = service.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
    left.map(|_| request).map_err(|_| Failure::Broken)
});

/// A request that [`Obeys`] fails.
pub const FAIL: u64 = 1 << 32;

immediate!(Obeys, |_: &Self, request| {
    if request >= FAIL { Err(Failure::Broken) } else { Ok(request) }
});

/// Answers on the second poll, after waking the task once.
#[derive(Clone, Debug)]
pub struct PendsOnce;

always_ready!(PendsOnce -> SecondPoll, |_, request| SecondPoll { request, polled: false });

/// The response of [`PendsOnce`].
#[derive(Debug)]
pub struct SecondPoll {
    request: u64,
    polled: bool,
}

impl Future for SecondPoll {
    type Output = Result<u64, Failure>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.polled {
            let request = self.request;
            return Poll::Ready(if request == NEVER { Err(Failure::Broken) } else { Ok(request) });
        }
        self.polled = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// Never answers: for calls in flight.
#[derive(Clone, Debug)]
pub struct Hangs;

always_ready!(Hangs -> Hanging, |_, request| Hanging { state: [request; STATE / 8] });

/// The size of a [`Hanging`] call in bytes, as real calls have some state.
pub const STATE: usize = 128;

/// The response of [`Hangs`].
#[derive(Debug)]
pub struct Hanging {
    state: [u64; STATE / 8],
}

/// The number of polls of all [`Hanging`] calls.
pub static POLLED: AtomicU64 = AtomicU64::new(0);

impl Future for Hanging {
    type Output = Result<u64, Failure>;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Self::Output> {
        black_box(&self.state);
        POLLED.fetch_add(1, Ordering::Relaxed);
        Poll::Pending
    }
}
