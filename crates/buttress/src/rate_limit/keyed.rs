//! A separate rate limit for each key.

mod handle;
mod rules;
mod shared;

use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use tower::Service;

use self::rules::{Rule, Table};
use self::shared::{Shared, check};
use super::config::Config;
use super::service::ResponseFuture;
use super::tokens::Spent;
use crate::machinery::keyed::{KeyedCalls, KeyedLayer, KeyedService};
use crate::vocabulary::cost::{Cost, OneToken};
use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::reject::{AsError, Reject};
use crate::vocabulary::until::UntilResponse;

pub use self::handle::{KeyLimit, KeyedHandle, KeyedStats, PlansHandle};
pub use self::rules::{OneRule, PlanStats, Plans, Rules};

/// A layer that limits how many calls pass per time window, separately for each key: per tenant,
/// endpoint or address.
///
/// Every key has its own token bucket, which starts full. The layer holds at most `max_keys` keys.
/// A new key takes the place of a long unused key whose bucket is full again. If there is none, the
/// layer refuses the call with [`TooManyKeys`](crate::ErrorKind::TooManyKeys): forgetting a bucket
/// that is not full would let its key exceed the limit. Choose `max_keys` well above the number of
/// keys that are active within the time that a bucket takes to fill.
///
/// A keyed limiter refuses calls and has no queue, so it has no method `queued` or `backpressure`. `poll_ready` cannot
/// wait for tokens, because it does not know the key. A queue per key would let the waiting calls grow with the number
/// of keys. A [retry](crate::retry) outside of the limiter repeats refused calls after the hint of the refusal.
///
/// The key is known only in `call`. A refused call therefore leaves the inner service ready, with
/// everything that it has reserved, until this service value is called again or dropped.
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
#[doc(alias = "queued")]
pub type KeyedRateLimitLayer<K, X, R = AsError, W = OneToken, P = OneRule> =
    KeyedLayer<Shared<K, P>, X, R, W>;

/// A service behind a rate limit per key. [`KeyedRateLimitLayer`] makes it.
pub type KeyedRateLimit<S, K, X, R, W, P = OneRule> = KeyedService<S, Shared<K, P>, X, R, W>;

impl<K: Hash + Eq + Clone, X> KeyedRateLimitLayer<K, X> {
    /// Creates a layer with a limiter for each key that `key` returns, for at most `max_keys` keys.
    /// Queue and wait of `config` do not apply.
    ///
    /// # Errors
    /// Returns the errors of [`RateLimitLayer::new`](super::RateLimitLayer::new), and an error for a policy other than
    /// the token bucket, or `max_keys` of zero.
    pub fn new<Req>(config: Config, max_keys: usize, key: X) -> Result<Self, InvalidConfig>
    where
        X: Fn(&Req) -> K,
    {
        check(&config)?;
        let rule = Rule::new(&config);
        let shared = Arc::new(Shared::new(config, max_keys, OneRule, rule)?);
        Ok(Self::over(shared, key, AsError, OneToken))
    }
}

impl<K: Hash + Eq + Clone, X, P> KeyedRateLimitLayer<K, X, AsError, OneToken, Plans<K, P>>
where
    P: PartialEq + fmt::Debug,
{
    /// Creates a layer with a limiter for each key. `plan_of` returns the plan of a key, and the
    /// plan sets rate and size.
    ///
    /// A key whose plan is not listed has the rules of `config`. A misspelt plan therefore changes the limit of its keys
    /// without an error. [`KeyedStats::unlisted_plan`] counts such calls, and each of the first 8 unlisted plans is one
    /// warning in the log. List every plan, also one that has the rules of `config`, and watch the number.
    ///
    /// A plan sets [`max_tokens`](Config::max_tokens) and [`refill`](Config::refill) only. All other settings come from
    /// `config`: name, clock, observer, [`count_calls`](Config::count_calls). In the configuration of a plan they have no
    /// effect.
    ///
    /// [`KeyedHandle::stats_of_plan`] has the numbers of each plan.
    ///
    /// The set of plans is fixed. [`KeyedHandle::reconfigure_plan`] changes the rules of a plan, and adds no plan.
    ///
    /// Every call runs `plan_of`. If `plan_of` returns another plan for a key, the key keeps its
    /// tokens, up to the size of the new bucket. The limiter notices the new plan at the next call of the key, or when
    /// [`KeyedHandle::limit_of`] or [`KeyedHandle::available`] looks at the key. The time before counts at the rate of
    /// the old plan. Do not make the plan a part of the key. A change of plan would then be a new key with a full
    /// bucket.
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
    /// // Change the limit of all tenants of a plan while calls run:
    /// limiter.reconfigure_plan(&Plan::Free, &per_second(5))?;
    /// assert_eq!(limiter.limit_of(&700).max_tokens, 5);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns the errors of [`new`](KeyedRateLimitLayer::new), for `config` or for a plan, and an error for a plan
    /// that is listed twice.
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
            config.common.named(check(&plan))?;
            if names.contains(&name) {
                let twice = InvalidConfig::new("plan", format!("{name:?}"), "listed once");
                return config.common.named(Err(twice));
            }
            names.push(name);
            rules.push(Rule::new(&plan));
        }
        let table = Table { base: Rule::new(&config), plans: rules.into() };
        let layer = config.common.of_keys(Pattern::RateLimit).layer();
        let plans = Plans::new(names, Box::new(plan_of), layer);
        let shared = Arc::new(Shared::new(config, max_keys, plans, table)?);
        Ok(Self::over(shared, key, AsError, OneToken))
    }
}

impl<K, X, R, W, P: Rules<K>> KeyedRateLimitLayer<K, X, R, W, P> {
    /// Sets the cost of each request, in tokens, to the result of `cost`. Default: 1.
    pub fn cost<Req, F>(self, cost: F) -> KeyedRateLimitLayer<K, X, R, F, P>
    where
        F: Fn(&Req) -> u32,
    {
        self.asking(|_| cost)
    }
}

impl<S, K, R, W, P, Req, F> KeyedCalls<S, Req, R, W> for Shared<K, P>
where
    S: Service<Req, Future = F>,
    F: Future<Output = Result<S::Response, S::Error>>,
    K: Hash + Eq + Clone,
    R: Reject<S::Response, S::Error> + Clone,
    W: Cost<Req>,
    P: Rules<K>,
{
    type Future = ResponseFuture<F, R>;

    fn admit(&self, key: &K, request: &Req, cost: &W) -> Result<Spent, Error> {
        self.try_take(key, cost.cost(request))
    }

    fn running(future: F, spent: Spent, _cost: &W) -> Self::Future {
        ResponseFuture::running(future, spent, UntilResponse)
    }

    fn refused(error: Error, reject: &R) -> Self::Future {
        ResponseFuture::refused(error, reject.clone())
    }
}

#[cfg(test)]
mod tests;
