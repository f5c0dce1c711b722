use std::fmt;
use std::sync::Arc;

use tower::Layer;

use super::admitting::Admitting;
use super::attempt::{Answers, CloneAttempt};
use super::config::{Config, part};
use super::gate::Gate;
use super::handle::{Handle, Shared};
use super::judge::{JudgeAttempt, JudgeRequest};
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

/// Everything a client of an unreliable service needs, in the right order. See the [module](super).
///
/// Every service made from one layer value, or from its clones, shares one state.
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
    /// As [`SidecarLayer::new`]: names the first field that is out of its bounds.
    pub fn build(self) -> Result<SidecarLayer, InvalidConfig> {
        SidecarLayer::new(self)
    }
}

impl SidecarLayer {
    /// Creates a sidecar of its own.
    ///
    /// # Errors
    /// What a part refuses.
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
    /// Judges through `classify` what a request that ended says about the service: what the breaker
    /// counts, and which counter the request ends in.
    pub fn classify<C2>(self, classify: C2) -> SidecarLayer<C2, T, Q, R> {
        let Self { shared, retry_on, clone, reject, .. } = self;
        SidecarLayer { shared, classify, retry_on, clone, reject }
    }

    /// Judges through `classify` which answers are worth another attempt.
    pub fn retry_on<T2>(self, classify: T2) -> SidecarLayer<C, T2, Q, R> {
        let Self { shared, clone, reject, .. } = self;
        SidecarLayer { shared, classify: self.classify, retry_on: classify, clone, reject }
    }

    /// Copies requests with `clone` instead of `Clone`; `None` means one attempt.
    pub fn clone_request<Req, F>(self, clone: F) -> SidecarLayer<C, T, F, R>
    where
        F: Fn(&Req) -> Option<Req>,
    {
        self.clone_with(clone)
    }

    /// Copies requests through a [`CloneRequest`](crate::retry::CloneRequest) of your own.
    pub fn clone_with<Q2>(self, clone: Q2) -> SidecarLayer<C, T, Q2, R> {
        let Self { shared, classify, retry_on, reject, .. } = self;
        SidecarLayer { shared, classify, retry_on, clone, reject }
    }

    /// Answers refusals and timeouts through `reject` instead of as errors.
    pub fn reject<R2>(self, reject: R2) -> SidecarLayer<C, T, Q, R2> {
        let Self { shared, classify, retry_on, clone, .. } = self;
        SidecarLayer { shared, classify, retry_on, clone, reject }
    }

    /// Returns the operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl Default for SidecarLayer {
    /// No limiter, 5 exhausted requests open for 30 seconds, 5 seconds an attempt, 4 attempts.
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
        let judge = JudgeRequest(self.classify.clone());
        let gated = Gate::new(limited, judge.clone(), self.shared.clone());
        let retried = RetryLayer::from_handle(retry)
            .classify(JudgeAttempt(self.retry_on.clone()))
            .clone_with(CloneAttempt(self.clone.clone()))
            .layer(gated);
        let broken =
            CircuitBreakerLayer::from_handle(circuit_breaker).classify(judge).layer(retried);
        let stack: Stack<S, C, T, Q> = MaybeLimited::new(Admitting(broken), rate_limit.as_ref());
        Sidecar::new(stack, self.shared.clone(), self.classify.clone(), self.reject.clone())
    }
}

impl<C: Clone, T: Clone, Q: Clone, R: Clone> Clone for SidecarLayer<C, T, Q, R> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            classify: self.classify.clone(),
            retry_on: self.retry_on.clone(),
            clone: self.clone.clone(),
            reject: self.reject.clone(),
        }
    }
}

impl<C, T, Q, R> fmt::Debug for SidecarLayer<C, T, Q, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SidecarLayer").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
