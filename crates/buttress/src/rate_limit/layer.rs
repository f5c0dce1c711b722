use std::marker::PhantomData;

use tower::Layer;

use super::config::Config;
use super::handle::Handle;
use super::service::{BackpressureRateLimit, QueuedRateLimit, RateLimit};
use super::shared::Shared;
use crate::machinery::own::{
    Counted, Leaked, Own, constructors, default_layer, layer_over, leak_of,
};
use crate::vocabulary::cost::OneToken;
use crate::vocabulary::mode::{Backpressure, Queued, Refuse};
use crate::vocabulary::reject::AsError;
use crate::vocabulary::until::UntilResponse;

layer_over! {
    /// A layer that limits how many calls pass per time window. The [module](super) explains the pattern.
    ///
    /// Every service made from one layer value, or from its clones, shares one limit.
    pub struct RateLimitLayer<R = AsError, W = OneToken, M = Refuse, O: Own = Counted> {
        reject: R, cost: W; mode: M
    }
}

constructors! {
    RateLimitLayer { reject: AsError, cost: OneToken, mode: PhantomData },
    "a limiter with its own state, which starts full",
    /// Tokens, periods or waits of zero, or a rate above one token per nanosecond.
}

leak_of! {
    <R, W> RateLimitLayer { reject, cost, mode }:
    RateLimitLayer<R, W> => RateLimitLayer<R, W, Refuse, Leaked>
}

impl<R, W, M> RateLimitLayer<R, W, M> {
    /// Lets calls wait in the configured queue, in their response futures. The inner service must
    /// be `Clone`: a waiting call holds no part of the service, and polls a clone when it is
    /// admitted.
    pub fn queued(self) -> RateLimitLayer<R, W, Queued> {
        RateLimitLayer {
            shared: self.shared,
            reject: self.reject,
            cost: self.cost,
            mode: PhantomData,
        }
    }
}

impl<R, W, M, O: Own> RateLimitLayer<R, W, M, O> {
    /// Sets how refusals are returned. Default: as errors, through [`AsError`].
    pub fn reject<T>(self, reject: T) -> RateLimitLayer<T, W, M, O> {
        RateLimitLayer { shared: self.shared, reject, cost: self.cost, mode: PhantomData }
    }
}

impl<R, O: Own> RateLimitLayer<R, OneToken, Refuse, O> {
    /// Sets the cost of each request, in tokens, to the result of `cost`. Default: 1.
    pub fn cost<Req, F>(self, cost: F) -> RateLimitLayer<R, F, Refuse, O>
    where
        F: Fn(&Req) -> u32,
    {
        RateLimitLayer { shared: self.shared, reject: self.reject, cost, mode: PhantomData }
    }
}

impl<R> RateLimitLayer<R, OneToken, Queued> {
    /// Sets the cost of each request, in tokens, to the result of `cost`. Default: 1.
    pub fn cost<Req, F>(self, cost: F) -> RateLimitLayer<R, F, Queued>
    where
        F: Fn(&Req) -> u32,
    {
        RateLimitLayer { shared: self.shared, reject: self.reject, cost, mode: PhantomData }
    }
}

impl<R, M> RateLimitLayer<R, OneToken, M> {
    /// Makes `poll_ready` wait for a token. Every call costs one token, because the request is not
    /// known yet. A cost cannot be set as well.
    ///
    /// The bounds of the configured queue do not apply: a caller that does not want to wait drops
    /// the service or polls another one. A service that is granted a token and is not polled keeps
    /// the token for [`claim_within`](Config::claim_within).
    pub fn backpressure(self) -> RateLimitLayer<R, OneToken, Backpressure> {
        let Self { shared, reject, cost, .. } = self;
        RateLimitLayer { shared, reject, cost, mode: PhantomData }
    }
}

default_layer! {
    /// Creates a limiter of 10 tokens and 10 tokens per second, which starts full.
    RateLimitLayer
}

impl<S, R: Clone, W: Clone, O: Own> Layer<S> for RateLimitLayer<R, W, Refuse, O> {
    type Service = RateLimit<S, R, W, O>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit::new(inner, self.shared.clone(), self.reject.clone(), self.cost.clone())
    }
}

impl<S, R: Clone, W: Clone> Layer<S> for RateLimitLayer<R, W, Queued> {
    type Service = QueuedRateLimit<S, R, W>;

    fn layer(&self, inner: S) -> Self::Service {
        let (reject, cost) = (self.reject.clone(), self.cost.clone());
        QueuedRateLimit::new(inner, self.shared.clone(), reject, cost, UntilResponse)
    }
}

impl<S, R: Clone> Layer<S> for RateLimitLayer<R, OneToken, Backpressure> {
    type Service = BackpressureRateLimit<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        BackpressureRateLimit::new(inner, self.shared.clone(), self.reject.clone(), UntilResponse)
    }
}
