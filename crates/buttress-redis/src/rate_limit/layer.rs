//! [`RateLimitLayer`] and its service.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll};

use buttress::rate_limit::{Cost, OneToken};
use buttress::{AsError, InvalidConfig, Reject};
use tower::{Layer, Service};

use super::config::Config;
use super::limiter::Handle;
use crate::address::Redis;

/// A function that finds the key of a request. Implemented by [`OneKey`] and by closures from `&Req` to `String`.
pub trait FindKey<Req> {
    /// Returns the key.
    fn find_key(&self, request: &Req) -> String;
}

/// The key of a limit for all requests together. The default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OneKey;

impl<Req> FindKey<Req> for OneKey {
    fn find_key(&self, _: &Req) -> String {
        String::new()
    }
}

impl<Req, F: Fn(&Req) -> String> FindKey<Req> for F {
    fn find_key(&self, request: &Req) -> String {
        self(request)
    }
}

/// A layer that limits the calls of all processes together. The [module](super) explains it.
///
/// Every service made from one layer value, or from its clones, shares one connection and the local buckets.
#[derive(Clone, Debug)]
#[must_use]
pub struct RateLimitLayer<K = OneKey, R = AsError, W = OneToken> {
    handle: Handle,
    key: K,
    reject: R,
    cost: W,
}

impl Redis {
    /// Creates a limiter whose tokens are in this Redis. Opens no connection yet.
    ///
    /// # Errors
    /// Returns [`InvalidConfig`] if a value is out of its bounds.
    pub fn rate_limit(&self, config: Config) -> Result<RateLimitLayer, InvalidConfig> {
        let link = self.clone().limit(config.call_limit).link();
        let handle = Handle::new(config, link, self.the_clock().clone())?;
        Ok(RateLimitLayer { handle, key: OneKey, reject: AsError, cost: OneToken })
    }
}

impl<K, R, W> RateLimitLayer<K, R, W> {
    /// Gives each key a separate bucket. A key longer than 200 bytes is written as its digest.
    pub fn by<Req, F: Fn(&Req) -> String>(self, key: F) -> RateLimitLayer<F, R, W> {
        let Self { handle, reject, cost, .. } = self;
        RateLimitLayer { handle, key, reject, cost }
    }

    /// Sets how refusals are returned. Default: as errors, through [`AsError`].
    pub fn reject<T>(self, reject: T) -> RateLimitLayer<K, T, W> {
        let Self { handle, key, cost, .. } = self;
        RateLimitLayer { handle, key, reject, cost }
    }

    /// Sets the cost of each request in tokens. Default: 1.
    pub fn cost<Req, F: Fn(&Req) -> u32>(self, cost: F) -> RateLimitLayer<K, R, F> {
        let Self { handle, key, reject, .. } = self;
        RateLimitLayer { handle, key, reject, cost }
    }

    /// Returns the handle of the limiter.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }
}

impl<S, K: Clone, R: Clone, W: Clone> Layer<S> for RateLimitLayer<K, R, W> {
    type Service = RateLimit<S, K, R, W>;

    fn layer(&self, inner: S) -> Self::Service {
        RateLimit { inner, layer: self.clone() }
    }
}

/// A service behind a limiter whose tokens are in Redis. [`RateLimitLayer`] makes it.
#[derive(Clone, Debug)]
pub struct RateLimit<S, K = OneKey, R = AsError, W = OneToken> {
    inner: S,
    layer: RateLimitLayer<K, R, W>,
}

impl<S, K, R, W, Req> Service<Req> for RateLimit<S, K, R, W>
where
    S: Service<Req, Future: Send> + Clone + Send + 'static,
    Req: Send + 'static,
    K: FindKey<Req>,
    R: Reject<S::Response, S::Error> + Clone + Send + 'static,
    W: Cost<Req>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let RateLimitLayer { handle, key, reject, cost } = &self.layer;
        let (key, cost) = (key.find_key(&request), cost.cost(&request));
        let (handle, reject) = (handle.clone(), reject.clone());
        // The service that is ready makes the call.
        let next = self.inner.clone();
        let mut inner = mem::replace(&mut self.inner, next);
        ResponseFuture(Box::pin(async move {
            match handle.try_acquire(&key, cost).await {
                Ok(()) => inner.call(request).await,
                Err(error) => reject.reject(error),
            }
        }))
    }
}

/// The response of a [`RateLimit`]. Dropping it cancels the call. The tokens may be taken.
#[must_use = "futures do nothing unless polled"]
pub struct ResponseFuture<Res, E>(Pin<Box<dyn Future<Output = Result<Res, E>> + Send>>);

impl<Res, E> Future for ResponseFuture<Res, E> {
    type Output = Result<Res, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.as_mut().poll(cx)
    }
}

impl<Res, E> fmt::Debug for ResponseFuture<Res, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
