use std::fmt;
use std::sync::Arc;

use tower::Layer;

use super::admitting::Admitting;
use super::attempt::{Answers, CloneAttempt};
use super::config::{Config, part};
use super::gate::Gate;
use super::handle::{Handle, Shared};
use super::judge::Judge;
use super::optional::MaybeLimited;
use super::service::{Sidecar, Stack};
use crate::circuit_breaker::CircuitBreakerLayer;
use crate::machinery::counters::Counters;
use crate::rate_limit::RateLimitLayer;
use crate::retry::{ByClone, RetryLayer};
use crate::sync::AtomicU64;
use crate::time_limit::TimeLimitLayer;
use crate::vocabulary::classify::{RetryableErrors, ServiceErrors};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::reject::AsError;

/// A layer that combines limiter, breaker, retry and time limit in the right order. The
/// [module](super) explains the pattern.
///
/// Every service made from one layer value, or from its clones, shares one state.
#[derive(Clone)]
#[must_use]
pub struct SidecarLayer<C = ServiceErrors, T = RetryableErrors, Q = ByClone, R = AsError> {
    shared: Arc<Shared>,
    classify: C,
    retry_on: T,
    clone: Q,
    reject: R,
}

impl Config {
    /// Builds a sidecar with its own state. Short for [`SidecarLayer::new`].
    ///
    /// # Errors
    /// Returns the errors of [`SidecarLayer::new`]: an error names the first field that is out of
    /// its bounds.
    pub fn build(self) -> Result<SidecarLayer, InvalidConfig> {
        SidecarLayer::new(self)
    }
}

impl SidecarLayer {
    /// Creates a sidecar with its own state.
    ///
    /// # Errors
    /// Returns the error of the first part whose configuration is out of its bounds.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        let rate_limit = match config.rate_limit.clone() {
            Some(part) => Some(RateLimitLayer::new(part!(config, part))?.handle()),
            None => None,
        };
        let breaker = part!(config, config.circuit_breaker.clone());
        let retry = part!(config, config.retry.clone());
        let time_limit = part!(config, config.time_limit_config());
        let shared = Arc::new(Shared {
            name: config.name,
            rate_limit,
            circuit_breaker: CircuitBreakerLayer::new(breaker)?.handle(),
            retry: RetryLayer::new(retry)?.handle(),
            time_limit: TimeLimitLayer::new(time_limit)?.handle(),
            counters: Counters::new(),
            stopped_retries: AtomicU64::new(0),
        });
        let (classify, retry_on) = (ServiceErrors, RetryableErrors);
        Ok(Self { shared, classify, retry_on, clone: ByClone, reject: AsError })
    }
}

impl<C, T, Q, R> SidecarLayer<C, T, Q, R> {
    /// Sets the classifier of ended requests. The breaker counts its outcome, and so does the
    /// handle. Default: [`ServiceErrors`].
    pub fn classify<C2>(self, classify: C2) -> SidecarLayer<C2, T, Q, R> {
        let Self { shared, retry_on, clone, reject, .. } = self;
        SidecarLayer { shared, classify, retry_on, clone, reject }
    }

    /// Sets the classifier that decides which answers are worth another attempt. Default:
    /// [`RetryableErrors`].
    pub fn retry_on<T2>(self, classify: T2) -> SidecarLayer<C, T2, Q, R> {
        let Self { shared, clone, reject, .. } = self;
        SidecarLayer { shared, classify: self.classify, retry_on: classify, clone, reject }
    }

    /// Sets a closure that copies requests. If it returns `None`, the request gets one attempt.
    /// Default: [`ByClone`].
    pub fn clone_request<Req, F>(self, clone: F) -> SidecarLayer<C, T, F, R>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        self.clone_with(clone)
    }

    /// Sets your own [`CloneRequest`](crate::retry::CloneRequest). Default: [`ByClone`].
    pub fn clone_with<Q2>(self, clone: Q2) -> SidecarLayer<C, T, Q2, R> {
        let Self { shared, classify, retry_on, reject, .. } = self;
        SidecarLayer { shared, classify, retry_on, clone, reject }
    }

    /// Sets how refusals and timeouts are returned. Default: as errors, through [`AsError`].
    pub fn reject<R2>(self, reject: R2) -> SidecarLayer<C, T, Q, R2> {
        let Self { shared, classify, retry_on, clone, .. } = self;
        SidecarLayer { shared, classify, retry_on, clone, reject }
    }

    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl Default for SidecarLayer {
    /// Creates a sidecar without a limiter, with 4 attempts of 5 seconds each. 5 exhausted requests
    /// in a row open its circuit for 30 seconds.
    fn default() -> Self {
        match Self::new(Config::new()) {
            Ok(layer) => layer,
            Err(error) => unreachable!("the defaults are valid: {error}"),
        }
    }
}

impl<S, C: Clone, T: Clone, Q: Clone, R: Clone> Layer<S> for SidecarLayer<C, T, Q, R> {
    type Service = Sidecar<S, C, T, Q, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let Shared { rate_limit, circuit_breaker, retry, time_limit, .. } = &*self.shared;
        let limited = TimeLimitLayer::from_handle(time_limit).layer(Answers(inner));
        let judge = Judge::new(self.classify.clone());
        let gated = Gate::new(limited, judge.clone(), self.shared.clone());
        let retried = RetryLayer::from_handle(retry)
            .classify(Judge::new(self.retry_on.clone()))
            .clone_with(CloneAttempt(self.clone.clone()))
            .layer(gated);
        let broken =
            CircuitBreakerLayer::from_handle(circuit_breaker).classify(judge).layer(retried);
        let stack: Stack<S, C, T, Q> = MaybeLimited::new(Admitting(broken), rate_limit.as_ref());
        Sidecar::new(stack, self.shared.clone(), self.classify.clone(), self.reject.clone())
    }
}

impl<C, T, Q, R> fmt::Debug for SidecarLayer<C, T, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SidecarLayer").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
