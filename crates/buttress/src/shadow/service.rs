use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use super::compare::{Compare, NotCompared};
use super::config::Config;
use super::future::{Plan, ResponseFuture};
use super::handle::Handle;
use super::shared::Shared;
use crate::machinery::caught::caught;
use crate::machinery::share::Draws;
use crate::retry::CloneRequest;
use crate::split::{ByError, Judge};
use crate::vocabulary::invalid_config::InvalidConfig;

/// A service that sends a copy of some requests to a mirror too. The [module](super) explains the pattern.
///
/// It is ready when the primary is, and answers as the primary does. All clones share one state.
pub struct Shadow<S, N, Q, C = NotCompared, J = ByError> {
    primary: S,
    mirror: N,
    copy: Q,
    compare: C,
    judge: J,
    shared: Arc<Shared>,
    draws: Draws,
}

impl<S, N, Q> Shadow<S, N, Q> {
    /// Creates a shadow of `primary`, whose mirrored requests go to `mirror`.
    ///
    /// `copy` copies the requests that may be mirrored, and returns `None` for all others. A mirrored request runs a
    /// second time. So `copy` must return `None` for every request that changes something which both services share.
    /// There is no default for that reason.
    ///
    /// The default judge takes errors that implement [`AsRefusal`](crate::AsRefusal), for example `BoxError`. Services
    /// with another error, for example [`Infallible`](std::convert::Infallible), need [`judge`](Self::judge).
    ///
    /// # Errors
    /// Returns an error that names the first field of `config` that is out of its bounds.
    pub fn new(primary: S, mirror: N, copy: Q, config: Config) -> Result<Self, InvalidConfig> {
        let handle = Handle { shared: Shared::new(&config)? };
        Ok(Self::with_handle(primary, mirror, copy, &handle))
    }

    /// Creates a shadow with the configuration, the share and the numbers of another one. Otherwise like
    /// [`new`](Self::new).
    pub fn with_handle(primary: S, mirror: N, copy: Q, handle: &Handle) -> Self {
        let shared = handle.shared.clone();
        let draws = Draws::new(&shared.rng);
        let (compare, judge) = (NotCompared, ByError);
        Self { primary, mirror, copy, compare, judge, shared, draws }
    }
}

impl<S, N, Q, C, J> Shadow<S, N, Q, C, J> {
    /// Compares the answers of both services by `compare`. Default: [`NotCompared`].
    pub fn compare<T>(self, compare: T) -> Shadow<S, N, Q, T, J> {
        let Self { primary, mirror, copy, compare: _, judge, shared, draws } = self;
        Shadow { primary, mirror, copy, compare, judge, shared, draws }
    }

    /// Judges the answers of the primary by `judge`. A request that never reached the primary is not mirrored.
    /// Default: [`ByError`], to which every refusal is one of the primary's own layers. If the primary passes on
    /// refusals of layers further in, use [`RefusedBy`](crate::split::RefusedBy).
    pub fn judge<T>(self, judge: T) -> Shadow<S, N, Q, C, T> {
        let Self { primary, mirror, copy, compare, judge: _, shared, draws } = self;
        Shadow { primary, mirror, copy, compare, judge, shared, draws }
    }

    /// Returns the handle of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl<S, N, Q, C, J, Req> Service<Req> for Shadow<S, N, Q, C, J>
where
    S: Service<Req, Response: Send, Error: Send>,
    N: Service<Req, Response = S::Response, Error = S::Error, Future: Send>
        + Clone
        + Send
        + 'static,
    Q: CloneRequest<Req> + Clone,
    C: Compare<S::Response, S::Error, Note: Send, Comparing: Send> + Clone + Send + 'static,
    J: Judge<S::Response, S::Error> + Clone,
    Req: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, N, Req, Q, C, J>;

    #[inline(always)]
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.primary.poll_ready(cx)
    }

    #[inline(always)]
    fn call(&mut self, request: Req) -> Self::Future {
        let is_mirrored = self.shared.share().covers(self.draws.point());
        let copy = if is_mirrored { self.copy.clone_request(&request) } else { None };
        let plan = copy.and_then(|request| self.plan(request));
        ResponseFuture::new(self.primary.call(request), plan)
    }
}

impl<S, N: Clone, Q: Clone, C: Clone, J: Clone> Shadow<S, N, Q, C, J> {
    /// Returns the parts that the mirrored call of `request` needs. Returns `None` if a clone panics: the caller must
    /// not notice it.
    #[cold]
    fn plan<Req>(&self, request: Req) -> Option<Plan<N, Req, Q, C, J>> {
        let plan = caught(|| Plan {
            mirror: self.mirror.clone(),
            request,
            copy: self.copy.clone(),
            compare: self.compare.clone(),
            judge: self.judge.clone(),
            shared: self.shared.clone(),
        });
        if plan.is_none() {
            self.shared.panicked();
        }
        plan
    }
}

impl<S: Clone, N: Clone, Q: Clone, C: Clone, J: Clone> Clone for Shadow<S, N, Q, C, J> {
    fn clone(&self) -> Self {
        Self {
            primary: self.primary.clone(),
            mirror: self.mirror.clone(),
            copy: self.copy.clone(),
            compare: self.compare.clone(),
            judge: self.judge.clone(),
            shared: self.shared.clone(),
            // Each value draws its own points.
            draws: Draws::new(&self.shared.rng),
        }
    }
}

impl<S: fmt::Debug, N: fmt::Debug, Q, C, J> fmt::Debug for Shadow<S, N, Q, C, J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shadow")
            .field("primary", &self.primary)
            .field("mirror", &self.mirror)
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
