//! The least code that keeps each pattern's guarantee for one path, with its state in one `Arc`: no
//! configuration, no events, no handle, no guard against panics. It is not fit for production. It
//! shows how much of a candidate's cost the pattern needs.

pub mod balance;
pub mod bulkhead;
pub mod circuit_breaker;
pub mod fallback;
pub mod idempotency;
pub mod rate_limit;
pub mod retry;
pub mod time_limit;

use pin_project_lite::pin_project;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

pin_project! {
    /// An answer that is ready, or the inner service's future.
    #[project = EitherProj]
    pub enum Either<F, T> {
        Inner { #[pin] future: F },
        Refused { result: Option<T> },
    }
}

impl<F: Future<Output = T>, T> Future for Either<F, T> {
    type Output = T;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        match self.project() {
            EitherProj::Inner { future } => future.poll(cx),
            EitherProj::Refused { result } => Poll::Ready(result.take().expect("polled once more")),
        }
    }
}

pin_project! {
    /// The inner service's future, and a permit that is released with it.
    pub struct Held<F, P> {
        #[pin]
        pub(crate) future: F,
        pub(crate) permit: P,
    }
}

impl<F: Future, P> Future for Held<F, P> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.project().future.poll(cx)
    }
}
