//! A rate limit per key.

mod handle;
mod rules;
mod shared;

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use self::rules::{Rule, Table};
use self::shared::{Shared, check};
use super::config::Config;
use super::service::ResponseFuture;
use super::tokens::Spent;
use crate::vocabulary::cost::{Cost, OneToken};
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::reject::{AsError, Reject};

pub use self::handle::{KeyLimit, KeyedHandle, KeyedStats};
pub use self::rules::{OneRule, Plans, Rules};

/// Limits how many calls pass in a time, for each key apart: per tenant, per endpoint, per address.
///
/// Every key has a token bucket of its own, starting full. At most `max_keys` are held: a new key takes
/// the place of a long unused one whose bucket is full again, and is refused with
/// [`TooManyKeys`](crate::ErrorKind::TooManyKeys) while there is none, because to forget a bucket that
/// is not full would be a way around the limit. Choose `max_keys` well above the number of keys that
/// are active within the time a bucket takes to fill.
///
/// The key is known only in `call`, so a refused call leaves the inner service ready, with whatever it
/// had reserved, until this service value is called again or dropped.
///
/// ```
/// use buttress::rate_limit::{Config, KeyedRateLimitLayer};
/// struct Request { tenant: u32 }
/// let layer = KeyedRateLimitLayer::new(Config::new(), 10_000, |request: &Request| request.tenant)?;
/// layer.handle().try_acquire(&7, 10)?;
/// assert!(layer.handle().try_acquire(&7, 1).is_err());
/// assert!(layer.handle().try_acquire(&8, 1).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct KeyedRateLimitLayer<K, X, R = AsError, C = OneToken, P: Rules<K> = OneRule> {
    shared: Arc<Shared<K, P>>,
    key: X,
    reject: R,
    cost: C,
}

impl<K: Hash + Eq + Clone, X> KeyedRateLimitLayer<K, X> {
    /// A limiter for each key that `key` finds, at most `max_keys` of them. Queue and wait of `config`
    /// do not apply.
    ///
    /// # Errors
    /// What [`RateLimitLayer::new`](super::RateLimitLayer::new) refuses, a policy other than the token
    /// bucket, or no keys.
    pub fn new<Req>(config: Config, max_keys: usize, key: X) -> Result<Self, InvalidConfig>
    where
        X: Fn(&Req) -> K,
    {
        check(&config)?;
        let rule = Rule::new(&config);
        let shared = Arc::new(Shared::new(config, max_keys, OneRule, rule)?);
        Ok(Self { shared, key, reject: AsError, cost: OneToken })
    }
}

impl<K: Hash + Eq + Clone, X, P> KeyedRateLimitLayer<K, X, AsError, OneToken, Plans<K, P>>
where
    P: PartialEq + fmt::Debug,
{
    /// A limiter for each key that `key` finds, whose rules are those of the plan that `plan_of` finds
    /// for the key.
    ///
    /// Each plan brings rate and size. A key whose plan is not listed has the rules of `config`, from
    /// which everything else comes too: name, clock, observer.
    ///
    /// `plan_of` is asked in every call. When its answer for a key changes, the key keeps its level: the
    /// next call finds as many tokens as before, at most those that the bucket of the new plan holds.
    /// So do not make the plan a part of the key: a change of plan would be a new key with a full bucket.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use buttress::rate_limit::{Config, KeyedRateLimitLayer};
    ///
    /// #[derive(Clone, Copy, PartialEq, Debug)]
    /// enum Plan { Free, Pro }
    /// struct Request { tenant: u32 }
    ///
    /// let per_second = |n| Config::new().max_tokens(n).refill(n, Duration::from_secs(1));
    /// let layer = KeyedRateLimitLayer::with_plans(
    ///     Config::new().name("api"),
    ///     10_000,
    ///     |request: &Request| request.tenant,
    ///     [(Plan::Free, per_second(2)), (Plan::Pro, per_second(20))],
    ///     |tenant: &u32| if *tenant < 100 { Plan::Pro } else { Plan::Free },
    /// )?;
    /// let limiter = layer.handle();
    /// assert!(limiter.try_acquire(&7, 20).is_ok());
    /// assert!(limiter.try_acquire(&700, 2).is_ok());
    /// assert!(limiter.try_acquire(&700, 1).is_err());
    /// // All tenants of the plan, live:
    /// limiter.reconfigure_plan(&Plan::Free, &per_second(5))?;
    /// assert_eq!(limiter.limit_of(&700).max_tokens, 5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// What [`new`](KeyedRateLimitLayer::new) refuses, of `config` or of a plan, and a plan that is
    /// listed twice.
    pub fn with_plans<Req>(
        config: Config,
        max_keys: usize,
        key: X,
        plans: impl IntoIterator<Item = (P, Config)>,
        plan_of: impl Fn(&K) -> P + Send + Sync + 'static,
    ) -> Result<Self, InvalidConfig>
    where
        X: Fn(&Req) -> K,
    {
        check(&config)?;
        let (mut names, mut rules) = (Vec::new(), Vec::new());
        for (name, plan) in plans {
            check(&plan)?;
            if names.contains(&name) {
                return Err(InvalidConfig::new("plan", format!("{name:?}"), "listed once"));
            }
            names.push(name);
            rules.push(Rule::new(&plan));
        }
        let table = Table { base: Rule::new(&config), plans: rules.into() };
        let plans = Plans::new(names, Box::new(plan_of));
        let shared = Arc::new(Shared::new(config, max_keys, plans, table)?);
        Ok(Self { shared, key, reject: AsError, cost: OneToken })
    }
}

impl<K, X, R, C, P: Rules<K>> KeyedRateLimitLayer<K, X, R, C, P> {
    /// Answers refusals through `reject` instead of as errors.
    pub fn reject<T>(self, reject: T) -> KeyedRateLimitLayer<K, X, T, C, P> {
        KeyedRateLimitLayer { shared: self.shared, key: self.key, reject, cost: self.cost }
    }

    /// Charges each request what `cost` says.
    pub fn cost<Req, F>(self, cost: F) -> KeyedRateLimitLayer<K, X, R, F, P>
    where
        F: Fn(&Req) -> u32,
    {
        KeyedRateLimitLayer { shared: self.shared, key: self.key, reject: self.reject, cost }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> KeyedHandle<K, P> {
        KeyedHandle { shared: self.shared.clone() }
    }
}

impl<S, K, X: Clone, R: Clone, C: Clone, P: Rules<K>> Layer<S>
    for KeyedRateLimitLayer<K, X, R, C, P>
{
    type Service = KeyedRateLimit<S, K, X, R, C, P>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedRateLimit { inner, layer: self.clone() }
    }
}

impl<K, X: Clone, R: Clone, C: Clone, P: Rules<K>> Clone for KeyedRateLimitLayer<K, X, R, C, P> {
    fn clone(&self) -> Self {
        let (key, reject, cost) = (self.key.clone(), self.reject.clone(), self.cost.clone());
        Self { shared: self.shared.clone(), key, reject, cost }
    }
}

impl<K, X, R, C, P: Rules<K>> fmt::Debug for KeyedRateLimitLayer<K, X, R, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimitLayer")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}

/// A service behind a rate limit per key. Made by [`KeyedRateLimitLayer`].
pub struct KeyedRateLimit<S, K, X, R, C, P: Rules<K> = OneRule> {
    inner: S,
    layer: KeyedRateLimitLayer<K, X, R, C, P>,
}

impl<S, K, X, R, C, P, Req> Service<Req> for KeyedRateLimit<S, K, X, R, C, P>
where
    S: Service<Req>,
    K: Hash + Eq + Clone,
    X: Fn(&Req) -> K,
    R: Reject<S::Response, S::Error> + Clone,
    C: Cost<Req>,
    P: Rules<K>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let KeyedRateLimitLayer { shared, key, reject, cost } = &self.layer;
        match shared.try_take(&key(&request), cost.cost(&request)) {
            Ok(()) => ResponseFuture::running(self.inner.call(request), Spent),
            Err(error) => ResponseFuture::refused(error, reject.clone()),
        }
    }
}

impl<S: Clone, K, X: Clone, R: Clone, C: Clone, P: Rules<K>> Clone
    for KeyedRateLimit<S, K, X, R, C, P>
{
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, K, X, R, C, P: Rules<K>> fmt::Debug for KeyedRateLimit<S, K, X, R, C, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimit")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish()
    }
}

#[cfg(test)]
mod tests;
