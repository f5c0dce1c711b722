//! A counter of calls in flight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Either, Held};
use crate::guarded::{Guard, Guarded, Inner};
use crate::workload::Failure;

pub struct Shared {
    active: AtomicU32,
    limit: u32,
}

/// Refuses calls above a limit.
#[derive(Clone)]
pub struct Limit(Arc<Shared>);

pub type Bulkhead<S> = Guarded<S, Limit>;

impl<S> Bulkhead<S> {
    pub fn new(inner: S, limit: u32) -> Self {
        let guard = Limit(Arc::new(Shared { active: AtomicU32::new(0), limit }));
        Self { inner, guard }
    }
}

pub struct Permit(Arc<Shared>);

impl Drop for Permit {
    #[inline]
    fn drop(&mut self) {
        self.0.active.fetch_sub(1, Ordering::Release);
    }
}

impl<S: Inner> Guard<S> for Limit {
    type Future = Either<Held<S::Future, Permit>, Result<u64, Failure>>;

    #[inline]
    fn call(&self, inner: &mut S, request: u64) -> Self::Future {
        let Shared { active, limit } = &*self.0;
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
        let permit = Permit(self.0.clone());
        Either::Inner { future: Held { future: inner.call(request), permit } }
    }
}
