//! The generic cell rate algorithm in one word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tower::Service;

use super::Either;
use crate::workload::Failure;

struct Shared {
    anchor: Instant,
    /// Nanoseconds for a token, and for a full bucket.
    token: u64,
    burst: u64,
    /// When the bucket will be full, in nanoseconds since the anchor.
    full_at: AtomicU64,
}

#[derive(Clone)]
pub struct RateLimit<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> RateLimit<S> {
    pub fn new(inner: S, token: Duration, burst: u64) -> Self {
        let token = token.as_nanos() as u64;
        let (anchor, full_at) = (Instant::now(), AtomicU64::new(0));
        Self { inner, shared: Arc::new(Shared { anchor, token, burst: token * burst, full_at }) }
    }
}

impl Shared {
    #[inline]
    fn take(&self) -> Result<(), Duration> {
        let now = self.anchor.elapsed().as_nanos() as u64;
        let mut old = self.full_at.load(Ordering::Relaxed);
        loop {
            let new = old.max(now) + self.token;
            if new > now + self.burst {
                return Err(Duration::from_nanos(new - now - self.burst));
            }
            match self.full_at.compare_exchange_weak(old, new, Ordering::Relaxed, Ordering::Relaxed)
            {
                Ok(_) => return Ok(()),
                Err(now) => old = now,
            }
        }
    }
}

impl<S: Service<u64, Response = u64, Error = Failure>> Service<u64> for RateLimit<S> {
    type Response = u64;
    type Error = Failure;
    type Future = Either<S::Future, Result<u64, Failure>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        match self.shared.take() {
            Ok(()) => Either::Inner { future: self.inner.call(request) },
            Err(left) => Either::Refused { result: Some(Err(Failure::RetryIn(left))) },
        }
    }
}
