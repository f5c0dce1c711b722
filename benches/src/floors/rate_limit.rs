//! The generic cell rate algorithm in one word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::Either;
use crate::guarded::{Guard, Guarded, Inner};
use crate::workload::Failure;

pub struct Shared {
    anchor: Instant,
    /// Nanoseconds for a token, and for a full bucket.
    token: u64,
    burst: u64,
    /// When the bucket will be full, in nanoseconds since the anchor.
    full_at: AtomicU64,
}

/// Refuses calls without a token.
#[derive(Clone)]
pub struct Tokens(Arc<Shared>);

pub type RateLimit<S> = Guarded<S, Tokens>;

impl<S> RateLimit<S> {
    pub fn new(inner: S, token: Duration, burst: u64) -> Self {
        let token = token.as_nanos() as u64;
        let (anchor, full_at) = (Instant::now(), AtomicU64::new(0));
        let shared = Shared { anchor, token, burst: token * burst, full_at };
        Self { inner, guard: Tokens(Arc::new(shared)) }
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

impl<S: Inner> Guard<S> for Tokens {
    type Future = Either<S::Future, Result<u64, Failure>>;

    #[inline]
    fn call(&self, inner: &mut S, request: u64) -> Self::Future {
        match self.0.take() {
            Ok(()) => Either::Inner { future: inner.call(request) },
            Err(left) => Either::Refused { result: Some(Err(Failure::RetryIn(left))) },
        }
    }
}
