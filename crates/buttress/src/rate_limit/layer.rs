use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tower::Layer;

use super::config::Config;
use super::handle::Handle;
use super::service::{BackpressureRateLimit, QueuedRateLimit, RateLimit};
use super::shared::Shared;
use crate::vocabulary::cost::OneToken;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::mode::{Backpressure, Queued, Refuse};
use crate::vocabulary::reject::AsError;

/// Limits how many calls pass in a time. See the [module](super) for everything else.
///
/// Every service made from one layer value, or from its clones, shares one limit.
#[must_use]
pub struct RateLimitLayer<R = AsError, X = OneToken, M = Refuse> {
    shared: Arc<Shared>,
    reject: R,
    cost: X,
    mode: PhantomData<M>,
}

impl Config {
    /// Builds a full limiter with its own state. Short for [`RateLimitLayer::new`].
    ///
    /// # Errors
    /// As [`RateLimitLayer::new`]: names the first field that is out of its bounds.
    pub fn build(self) -> Result<RateLimitLayer, InvalidConfig> {
        RateLimitLayer::new(self)
    }
}

impl RateLimitLayer {
    /// A limiter of its own, starting full.
    ///
    /// # Errors
    /// Tokens, periods or waits of zero, or a rate beyond one token a nanosecond.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        Ok(Self::over(Shared::new(&config)?))
    }

    /// Another layer over the state of an existing limiter.
    pub fn from_handle(handle: &Handle) -> Self {
        Self::over(handle.shared.clone())
    }

    fn over(shared: Arc<Shared>) -> Self {
        Self { shared, reject: AsError, cost: OneToken, mode: PhantomData }
    }
}

impl<R, X, M> RateLimitLayer<R, X, M> {
    /// Answers refusals through `reject` instead of as errors.
    pub fn reject<T>(self, reject: T) -> RateLimitLayer<T, X, M> {
        RateLimitLayer { shared: self.shared, reject, cost: self.cost, mode: PhantomData }
    }

    /// Lets calls wait in the configured queue, in their response futures. The inner service must be
    /// `Clone`: a call that waits keeps nothing of the service, and polls a clone at its turn.
    pub fn queued(self) -> RateLimitLayer<R, X, Queued> {
        RateLimitLayer {
            shared: self.shared,
            reject: self.reject,
            cost: self.cost,
            mode: PhantomData,
        }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl<R> RateLimitLayer<R, OneToken, Refuse> {
    /// Charges each request what `cost` says.
    pub fn cost<Req, F>(self, cost: F) -> RateLimitLayer<R, F, Refuse>
    where
        F: Fn(&Req) -> u32,
    {
        RateLimitLayer { shared: self.shared, reject: self.reject, cost, mode: PhantomData }
    }
}

impl<R> RateLimitLayer<R, OneToken, Queued> {
    /// Charges each request what `cost` says.
    pub fn cost<Req, F>(self, cost: F) -> RateLimitLayer<R, F, Queued>
    where
        F: Fn(&Req) -> u32,
    {
        RateLimitLayer { shared: self.shared, reject: self.reject, cost, mode: PhantomData }
    }
}

impl<R, M> RateLimitLayer<R, OneToken, M> {
    /// Makes `poll_ready` wait for a token. The configured queue's bounds do not apply: a caller that
    /// will not wait drops the service or polls another one. A service that does not come for the token it
    /// was granted keeps it for [`claim_within`](Config::claim_within). Every call costs one token, because the
    /// request is not known yet, so this and a cost do not go together.
    pub fn backpressure(self) -> RateLimitLayer<R, OneToken, Backpressure> {
        let Self { shared, reject, cost, .. } = self;
        RateLimitLayer { shared, reject, cost, mode: PhantomData }
    }
}

impl Default for RateLimitLayer {
    /// 10 tokens, 10 per second, starting full.
    fn default() -> Self {
        match Self::new(Config::new()) {
            Ok(layer) => layer,
            Err(error) => unreachable!("the defaults are valid: {error}"),
        }
    }
}

impl<S, R: Clone, X: Clone> Layer<S> for RateLimitLayer<R, X, Refuse> {
    type Service = RateLimit<S, R, X>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit::new(inner, self.shared.clone(), self.reject.clone(), self.cost.clone())
    }
}

impl<S, R: Clone, X: Clone> Layer<S> for RateLimitLayer<R, X, Queued> {
    type Service = QueuedRateLimit<S, R, X>;

    fn layer(&self, inner: S) -> Self::Service {
        QueuedRateLimit::new(inner, self.shared.clone(), self.reject.clone(), self.cost.clone())
    }
}

impl<S, R: Clone> Layer<S> for RateLimitLayer<R, OneToken, Backpressure> {
    type Service = BackpressureRateLimit<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        BackpressureRateLimit::new(inner, self.shared.clone(), self.reject.clone())
    }
}

impl<R: Clone, X: Clone, M> Clone for RateLimitLayer<R, X, M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            reject: self.reject.clone(),
            cost: self.cost.clone(),
            mode: PhantomData,
        }
    }
}

impl<R, X, M> fmt::Debug for RateLimitLayer<R, X, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimitLayer").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
