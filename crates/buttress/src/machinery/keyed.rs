//! The layer, service and handle of a pattern with a state per key.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use crate::vocabulary::error::Error;
use crate::vocabulary::name::Name;

/// The states of all keys of a layer.
pub trait PerKey {
    type Key;
    /// The right to make one call.
    type Pass;

    /// Returns the name of the layer.
    fn name(&self) -> Name;
    /// Returns how many keys are held.
    fn keys(&self) -> usize;
    /// Returns the greatest number of keys that are ever held.
    fn max_keys(&self) -> usize;
}

/// Calls of a service `S` through a pattern with a state per key. `A` is the pattern's function
/// over each call: its cost, or its classifier and its end.
pub trait KeyedCalls<S: Service<Req>, Req, R, A>: PerKey {
    type Future: Future<Output = Result<S::Response, S::Error>>;

    /// Begins a call to `key`.
    ///
    /// # Errors
    /// Returns the refusal. It has been counted and reported.
    fn admit(&self, key: &Self::Key, request: &Req, ask: &A) -> Result<Self::Pass, Error>;
    /// Returns the response future of an admitted call.
    fn running(future: S::Future, pass: Self::Pass, ask: &A) -> Self::Future;
    /// Returns the response future of a refused call.
    fn refused(error: Error, reject: &R) -> Self::Future;
}

/// Makes the snapshot of a keyed layer: the numbers of every keyed pattern, and those that follow.
/// The text says why a call of a key that has a place is refused.
macro_rules! keyed_stats {
    ($(#[$meta:meta])+ refused: $why:literal $($more:tt)*) => {
        $crate::vocabulary::reading::snapshot! {
            $(#[$meta])+
            pub struct KeyedStats: Copy + Eq {
                /// Keys held now.
                pub keys: usize,
                /// The most keys that are ever held.
                pub max_keys: usize,
                #[doc = $why]
                pub refused: u64,
                /// Calls refused because there was no place for their key.
                pub too_many_keys: u64,
                $($more)*
            }
        }
    };
}
pub(crate) use keyed_stats;

/// A layer with a state per key. The patterns define aliases of it: `KeyedBulkheadLayer`,
/// `KeyedRateLimitLayer` and `KeyedCircuitBreakerLayer`.
///
/// A compiler error names this type in place of the alias. A keyed layer refuses calls and has no queue, so it has no
/// method `queued` or `backpressure`. The pages of the aliases say why.
#[must_use]
pub struct KeyedLayer<N, X, R, A> {
    keys: Arc<N>,
    key: X,
    reject: R,
    ask: A,
}

impl<N, X, R, A> KeyedLayer<N, X, R, A> {
    pub(crate) fn over(keys: Arc<N>, key: X, reject: R, ask: A) -> Self {
        Self { keys, key, reject, ask }
    }

    pub(crate) fn asking<T>(self, change: impl FnOnce(A) -> T) -> KeyedLayer<N, X, R, T> {
        let Self { keys, key, reject, ask } = self;
        KeyedLayer { keys, key, reject, ask: change(ask) }
    }

    /// Sets how refusals are returned. Default: as errors, through [`AsError`](crate::AsError).
    pub fn reject<T>(self, reject: T) -> KeyedLayer<N, X, T, A> {
        KeyedLayer { keys: self.keys, key: self.key, reject, ask: self.ask }
    }

    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> KeyedHandle<N> {
        KeyedHandle { keys: self.keys.clone() }
    }
}

impl<S, N, X: Clone, R: Clone, A: Clone> Layer<S> for KeyedLayer<N, X, R, A> {
    type Service = KeyedService<S, N, X, R, A>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedService { inner, layer: self.clone() }
    }
}

impl<N, X: Clone, R: Clone, A: Clone> Clone for KeyedLayer<N, X, R, A> {
    fn clone(&self) -> Self {
        let (key, reject, ask) = (self.key.clone(), self.reject.clone(), self.ask.clone());
        Self { keys: self.keys.clone(), key, reject, ask }
    }
}

impl<N: PerKey, X, R, A> fmt::Debug for KeyedLayer<N, X, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedLayer").field("handle", &self.handle()).finish_non_exhaustive()
    }
}

/// A service behind a layer with a state per key. The patterns define aliases of it:
/// `KeyedBulkhead`, `KeyedRateLimit` and `KeyedCircuitBreaker`.
pub struct KeyedService<S, N, X, R, A> {
    inner: S,
    layer: KeyedLayer<N, X, R, A>,
}

impl<S, N, X, R, A, Req> Service<Req> for KeyedService<S, N, X, R, A>
where
    S: Service<Req>,
    N: KeyedCalls<S, Req, R, A>,
    X: Fn(&Req) -> N::Key,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = N::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let KeyedLayer { keys, key, reject, ask } = &self.layer;
        match keys.admit(&key(&request), &request, ask) {
            Ok(pass) => N::running(self.inner.call(request), pass, ask),
            Err(error) => N::refused(error, reject),
        }
    }
}

impl<S: Clone, N, X: Clone, R: Clone, A: Clone> Clone for KeyedService<S, N, X, R, A> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, N: PerKey, X, R, A> fmt::Debug for KeyedService<S, N, X, R, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedService")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish()
    }
}

/// The handle of a keyed layer, for operators and for use without tower. Cheap to clone.
pub struct KeyedHandle<N> {
    pub(crate) keys: Arc<N>,
}

impl<N> Clone for KeyedHandle<N> {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone() }
    }
}

impl<N: PerKey> fmt::Debug for KeyedHandle<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedHandle")
            .field("name", &self.keys.name())
            .field("keys", &self.keys.keys())
            .field("max_keys", &self.keys.max_keys())
            .finish_non_exhaustive()
    }
}
