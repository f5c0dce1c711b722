//! recloser: its own future around the inner service's.

use std::task::{Context, Poll};
use std::time::Duration;

use recloser::{AnyError, AsyncRecloser, Error, Recloser, RecloserFuture};
use tower::Service;

#[derive(Clone)]
pub struct Reclosing<S> {
    inner: S,
    recloser: AsyncRecloser,
}

impl<S> Reclosing<S> {
    /// Opens for an hour when `share` of the last `calls` failed.
    pub fn new(inner: S, calls: usize, share: f32) -> Self {
        let recloser = Recloser::custom().error_rate(share).closed_len(calls);
        let recloser = recloser.open_wait(Duration::from_secs(3600)).build();
        Self { inner, recloser: AsyncRecloser::from(recloser) }
    }
}

impl<S, E> Service<u64> for Reclosing<S>
where
    S: Service<u64, Response = u64, Error = E>,
{
    type Response = u64;
    type Error = Error<E>;
    type Future = RecloserFuture<S::Future, AnyError>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error<E>>> {
        self.inner.poll_ready(cx).map_err(Error::Inner)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        self.recloser.call(self.inner.call(request))
    }
}
