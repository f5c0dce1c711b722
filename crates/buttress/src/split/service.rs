use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::config::Config;
use super::fall_back::{FallsBack, NoFallBack};
use super::force::{FindSide, NotForced};
use super::future::{ResponseFuture, Spare};
use super::handle::Handle;
use super::shared::Shared;
use super::state::{Side, side};
use crate::balance::{FindKey, NoKey};
use crate::machinery::share::Draws;
use crate::vocabulary::invalid_config::InvalidConfig;

/// A service that sends a share of its requests to a new service, and the others to the old one. The [module](super)
/// explains the pattern.
///
/// It is always ready, and chooses in `call`. The call clones the service of its side, and waits until the clone is
/// ready. All clones share one state.
pub struct Split<S, N, X = NoKey, V = NotForced, F = NoFallBack> {
    old: S,
    new: N,
    shared: Arc<Shared>,
    draws: Draws,
    key: X,
    force: V,
    fall_back: F,
}

impl<S, N> Split<S, N> {
    /// Creates a split between `old` and `new`.
    ///
    /// # Errors
    /// Returns an error for a share that is not between 0 and 1.
    pub fn new(old: S, new: N, config: Config) -> Result<Self, InvalidConfig> {
        Ok(Self::with_handle(old, new, &Handle::new(&config)?))
    }

    /// Creates a split with the share of `handle`. All splits of one handle share its numbers.
    pub fn with_handle(old: S, new: N, handle: &Handle) -> Self {
        let shared = handle.shared.clone();
        let draws = Draws::new(&shared.rng);
        let (key, force, fall_back) = (NoKey, NotForced, NoFallBack);
        Self { old, new, shared, draws, key, force, fall_back }
    }
}

impl<S, N, X, V, F> Split<S, N, X, V, F> {
    /// Sends requests with the same key to the same side. [`key`](super::key) makes a key from a text. A request
    /// without a key gets its side at random.
    ///
    /// While the share grows, a key that has moved to the new side stays there. While the share falls, the keys that
    /// moved last return first. All processes with the same salt choose the same side for a key.
    pub fn stick_by<Req, T>(self, find: T) -> Split<S, N, T, V, F>
    where
        T: Fn(&Req) -> Option<u64>,
    {
        let Self { old, new, shared, draws, key: _, force, fall_back } = self;
        Split { old, new, shared, draws, key: find, force, fall_back }
    }

    /// Sends a request to the side that `find` returns, whatever the share. Default: no request chooses its side.
    ///
    /// A caller that can set the value that `find` reads can choose the side. Let only trusted callers set it.
    pub fn force<Req, T>(self, find: T) -> Split<S, N, X, T, F>
    where
        T: Fn(&Req) -> Option<Side>,
    {
        let Self { old, new, shared, draws, key, force: _, fall_back } = self;
        Split { old, new, shared, draws, key, force: find, fall_back }
    }

    /// Lets the old side answer requests that the new side did not. Default: never.
    pub fn fall_back<T>(self, rule: T) -> Split<S, N, X, V, T> {
        let Self { old, new, shared, draws, key, force, fall_back: _ } = self;
        Split { old, new, shared, draws, key, force, fall_back: rule }
    }

    /// Returns the handle of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl<S, N, X, V, F, Req> Service<Req> for Split<S, N, X, V, F>
where
    S: Service<Req> + Clone,
    N: Service<Req, Response = S::Response, Error = S::Error> + Clone,
    X: FindKey<Req>,
    V: FindSide<Req>,
    F: FallsBack<Req, S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, N, Req, F>;

    /// Always ready: the side is chosen in `call`.
    #[inline(always)]
    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let forced = self.force.side(&request);
        let side = side(forced, self.shared.share(), || match self.key.key(&request) {
            Some(key) => self.shared.salt.point(key),
            None => self.draws.point(),
        });
        self.shared.count(forced, side);
        match side {
            Side::Old => ResponseFuture::old(self.old.clone(), request),
            Side::New => {
                let spare = self.fall_back.keep(&request).map(|kept| Spare {
                    old: self.old.clone(),
                    kept,
                    rule: self.fall_back.clone(),
                    shared: self.shared.clone(),
                });
                ResponseFuture::new(self.new.clone(), request, spare)
            }
        }
    }
}

impl<S: Clone, N: Clone, X: Clone, V: Clone, F: Clone> Clone for Split<S, N, X, V, F> {
    fn clone(&self) -> Self {
        Self {
            old: self.old.clone(),
            new: self.new.clone(),
            shared: self.shared.clone(),
            // Each value draws its own points.
            draws: Draws::new(&self.shared.rng),
            key: self.key.clone(),
            force: self.force.clone(),
            fall_back: self.fall_back.clone(),
        }
    }
}

impl<S: fmt::Debug, N: fmt::Debug, X, V, F> fmt::Debug for Split<S, N, X, V, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Split")
            .field("old", &self.old)
            .field("new", &self.new)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
