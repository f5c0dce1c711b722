//! A closed circuit that counts, and an open one that refuses.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use pin_project_lite::pin_project;

use super::Either;
use crate::guarded::{Guard, Guarded, Inner};
use crate::workload::Failure;

/// The counts of the calls of a closed circuit.
pub trait Window: Send + Sync + 'static {
    fn record(&self, failed: bool) -> bool;
}

/// Consecutive failures.
#[derive(Default)]
pub struct Streak(AtomicU32);

impl Window for Streak {
    #[inline]
    fn record(&self, failed: bool) -> bool {
        if failed {
            return self.0.fetch_add(1, Ordering::Relaxed) >= 4;
        }
        if self.0.load(Ordering::Relaxed) != 0 {
            self.0.store(0, Ordering::Relaxed);
        }
        false
    }
}

/// The last 64 calls as bits. A window of 100 would take two words.
#[derive(Default)]
pub struct Last64 {
    outcomes: AtomicU64,
}

impl Window for Last64 {
    #[inline]
    fn record(&self, failed: bool) -> bool {
        let mut old = self.outcomes.load(Ordering::Relaxed);
        if old == 0 && !failed {
            return false;
        }
        loop {
            let new = old << 1 | u64::from(failed);
            match self.outcomes.compare_exchange_weak(
                old,
                new,
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return new.count_ones() >= 58,
                Err(now) => old = now,
            }
        }
    }
}

/// The last ten seconds in ten slices.
pub struct Seconds {
    anchor: Instant,
    slices: [(AtomicU64, AtomicU64, AtomicU64); 10],
}

impl Default for Seconds {
    fn default() -> Self {
        Self { anchor: Instant::now(), slices: Default::default() }
    }
}

impl Window for Seconds {
    #[inline]
    fn record(&self, failed: bool) -> bool {
        let now = self.anchor.elapsed().as_secs();
        let (number, total, failures) = &self.slices[(now % 10) as usize];
        if number.load(Ordering::Relaxed) != now {
            number.store(now, Ordering::Relaxed);
            total.store(0, Ordering::Relaxed);
            failures.store(0, Ordering::Relaxed);
        }
        total.fetch_add(1, Ordering::Relaxed);
        if !failed {
            return false;
        }
        failures.fetch_add(1, Ordering::Relaxed);
        let sums = self.slices.iter().filter(|(at, ..)| at.load(Ordering::Relaxed) + 10 > now);
        let (total, failed) = sums.fold((0, 0), |(total, failed), (_, t, f)| {
            (total + t.load(Ordering::Relaxed), failed + f.load(Ordering::Relaxed))
        });
        total >= 100 && failed * 10 >= total * 9
    }
}

pub struct Shared<W> {
    anchor: Instant,
    /// Nanoseconds since the anchor until which the circuit is open; 0 while it is closed.
    open_until: AtomicU64,
    window: W,
}

/// Refuses calls while the circuit is open.
pub struct Circuit<W>(Arc<Shared<W>>);

pub type Breaker<S, W> = Guarded<S, Circuit<W>>;

impl<S, W: Window + Default> Breaker<S, W> {
    pub fn new(inner: S) -> Self {
        let open_until = AtomicU64::new(0);
        let shared = Shared { anchor: Instant::now(), open_until, window: W::default() };
        Self { inner, guard: Circuit(Arc::new(shared)) }
    }

    pub fn open(self) -> Self {
        self.guard.0.open_until.store(3_600_000_000_000, Ordering::Relaxed);
        self
    }
}

impl<W> Clone for Circuit<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

pin_project! {
    pub struct Counted<F, W> {
        #[pin]
        future: F,
        shared: Arc<Shared<W>>,
    }
}

impl<F: Future<Output = Result<T, E>>, T, E, W: Window> Future for Counted<F, W> {
    type Output = F::Output;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let result = ready!(this.future.poll(cx));
        if this.shared.window.record(result.is_err()) {
            let now = this.shared.anchor.elapsed().as_nanos() as u64;
            this.shared.open_until.store(now + 30_000_000_000, Ordering::Relaxed);
        }
        Poll::Ready(result)
    }
}

impl<S: Inner, W: Window> Guard<S> for Circuit<W> {
    type Future = Either<Counted<S::Future, W>, Result<u64, Failure>>;

    #[inline]
    fn call(&self, inner: &mut S, request: u64) -> Self::Future {
        let until = self.0.open_until.load(Ordering::Acquire);
        if until != 0 {
            let now = self.0.anchor.elapsed().as_nanos() as u64;
            if now < until {
                let left = Duration::from_nanos(until - now);
                return Either::Refused { result: Some(Err(Failure::RetryIn(left))) };
            }
        }
        let future = inner.call(request);
        Either::Inner { future: Counted { future, shared: self.0.clone() } }
    }
}
