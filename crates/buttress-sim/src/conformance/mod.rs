//! Conformance suites for stores: one per trait. They run on the stores in memory, on SQLite and on
//! PostgreSQL, and on yours.
//!
//! A suite is generic over a [`Harness`], which makes stores and moves their clock. Each case runs
//! on a fresh store. A case that fails panics with its name before the reason.
//!
//! ```
//! use std::time::Duration;
//! use buttress::VirtualClock;
//! use buttress_durable::saga;
//! use buttress_sim::conformance::{self, Harness};
//!
//! struct InMemory(VirtualClock);
//!
//! impl Harness<saga::MemoryStore<Vec<u8>>> for InMemory {
//!     async fn fresh(&self) -> saga::MemoryStore<Vec<u8>> {
//!         saga::MemoryStore::of_bytes(self.0.clock())
//!     }
//!     async fn reopen(&self, store: &saga::MemoryStore<Vec<u8>>) -> saga::MemoryStore<Vec<u8>> {
//!         store.clone()
//!     }
//!     async fn advance(&self, by: Duration) {
//!         self.0.advance(by);
//!     }
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! conformance::saga::all(&InMemory(VirtualClock::new())).await;
//! # }
//! ```
#![expect(clippy::panic, reason = "a case that fails panics")]
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "of what a case has put there itself"
)]

pub mod barrier;
pub mod dead_letters;
pub mod event_store;
pub mod idempotency;
pub mod inbox;
pub mod outbox;
pub mod publisher;
pub mod saga;
pub mod source;

use std::fmt::Debug;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use buttress::{StoreError, StoreErrorKind};

/// A factory of stores of one kind that also moves their clock.
pub trait Harness<S> {
    /// Returns an empty store.
    fn fresh(&self) -> impl Future<Output = S>;

    /// Returns another handle on the data of `store`, as another process would open it.
    fn reopen(&self, store: &S) -> impl Future<Output = S>;

    /// Moves the clock of all stores of this harness.
    fn advance(&self, by: Duration) -> impl Future<Output = ()>;
}

/// A [`Harness`] of a store that writes within transactions.
pub trait Transactions<S, Tx>: Harness<S> {
    /// Begins a transaction on the data of `store`.
    fn begin(&self, store: &S) -> impl Future<Output = Tx>;

    /// Commits `tx`.
    fn commit(&self, tx: Tx) -> impl Future<Output = ()>;

    /// Rolls `tx` back.
    fn roll_back(&self, tx: Tx) -> impl Future<Output = ()>;
}

/// The shortest difference of times that a store must distinguish.
pub(crate) const GRAIN: Duration = Duration::from_millis(1);

pub(crate) fn expect<T>(result: Result<T, StoreError>, what: &str) -> T {
    match result {
        Ok(value) => value,
        Err(error) => panic!("{what}: {error} ({error:?})"),
    }
}

pub(crate) fn refused<T: Debug>(result: Result<T, StoreError>, kind: StoreErrorKind, what: &str) {
    match result {
        Err(error) if error.kind() == kind => {}
        other => panic!("{what}: wanted {kind}, got {other:?}"),
    }
}

/// Runs both futures concurrently.
pub(crate) async fn both<A, B>(
    one: impl Future<Output = A>,
    other: impl Future<Output = B>,
) -> (A, B) {
    let (mut one, mut other) = (pin!(one), pin!(other));
    let (mut first, mut second) = (None, None);
    poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(value) = one.as_mut().poll(cx)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = other.as_mut().poll(cx)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(one), Some(other)) => Poll::Ready((one, other)),
            (one, other) => {
                (first, second) = (one, other);
                Poll::Pending
            }
        }
    })
    .await
}

/// Runs all futures concurrently. Returns their outputs in their order.
pub(crate) async fn all_of<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    poll_fn(|cx| {
        for (future, output) in &mut futures {
            if output.is_none()
                && let Poll::Ready(value) = future.as_mut().poll(cx)
            {
                *output = Some(value);
            }
        }
        if futures.iter().any(|(_, output)| output.is_none()) {
            return Poll::Pending;
        }
        Poll::Ready(())
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

/// Waits for `future`, unless `end` ends first.
pub(crate) async fn unless<T>(
    future: impl Future<Output = T>,
    end: impl Future<Output = ()>,
) -> Option<T> {
    let (mut future, mut end) = (pin!(future), pin!(end));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending => end.as_mut().poll(cx).map(|()| None),
    })
    .await
}

/// Runs cases by name. Each is an `async fn(&H)`.
macro_rules! cases {
    ($harness:ident: $($case:ident),+ $(,)?) => {$({
        struct Named(&'static str);
        impl Drop for Named {
            fn drop(&mut self) {
                if std::thread::panicking() {
                    eprintln!("conformance case failed: {}", self.0);
                }
            }
        }
        let named = Named(concat!(module_path!(), "::", stringify!($case)));
        $case($harness).await;
        drop(named);
    })+};
}
pub(crate) use cases;
