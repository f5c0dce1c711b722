//! A counter of calls in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::task::{Context, Poll};

use tower::Service;

use super::{Either, Held};
use crate::workload::Failure;

struct Shared {
    active: AtomicU32,
    limit: u32,
}

#[derive(Clone)]
pub struct Bulkhead<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S> Bulkhead<S> {
    pub fn new(inner: S, limit: u32) -> Self {
        Self { inner, shared: Arc::new(Shared { active: AtomicU32::new(0), limit }) }
    }
}

pub struct Permit(Arc<Shared>);

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Release);
    }
}

impl<S: Service<u64, Response = u64, Error = Failure>> Service<u64> for Bulkhead<S> {
    type Response = u64;
    type Error = Failure;
    type Future = Either<Held<S::Future, Permit>, Result<u64, Failure>>;

    #[inline]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Failure>> {
        self.inner.poll_ready(cx)
    }

    #[inline]
    fn call(&mut self, request: u64) -> Self::Future {
        let Shared { active, limit } = &*self.shared;
        let mut seen = active.load(Ordering::Relaxed);
        loop {
            if seen >= *limit {
                return Either::Refused { result: Some(Err(Failure::Full)) };
            }
            match active.compare_exchange_weak(seen, seen + 1, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => break,
                Err(now) => seen = now,
            }
        }
        let permit = Permit(self.shared.clone());
        Either::Inner { future: Held { future: self.inner.call(request), permit } }
    }
}
