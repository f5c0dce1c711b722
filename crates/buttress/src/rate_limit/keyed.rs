//! A rate limit per key.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use tower::{Layer, Service};

use super::config::{Config, Policy};
use super::service::ResponseFuture;
use super::state::Short;
use super::state::plan::{Plan, nanos_since};
use super::tokens::Spent;
use crate::cost::{Cost, OneToken};
use crate::counters::Counters;
use crate::error::{Error, RetryAfter};
use crate::invalid_config::InvalidConfig;
use crate::keyed::{KeyMap, check_max_keys};
use crate::observe::Common;
use crate::reject::{AsError, Reject};
use crate::sync::{AtomicU32, Mutex, Ordering, lock};

const REFUSED: usize = 0;
const TOO_MANY_KEYS: usize = 1;
const ADMITTED: usize = 2;

/// What every service of one layer shares: for each key the position up to which its tokens are spent.
#[derive(Debug)]
struct Shared<K> {
    anchor: Instant,
    spent: KeyMap<K, u64, Plan>,
    per_second: AtomicU32,
    counters: Counters<3>,
    common: Common,
    /// Keeps changes of the configuration apart.
    changing: Mutex<()>,
}

impl<K: Hash + Eq + Clone> Shared<K> {
    fn try_take(&self, key: &K, cost: u32) -> Result<(), Error> {
        let now = nanos_since(self.anchor, self.common.clock.now());
        let taken = self.spent.with(
            key,
            |_| 0,
            // A full bucket can be forgotten: a new one is full too.
            |plan, spent| plan.is_full(*spent, now),
            |plan, spent| plan.take(*spent, cost, now).map(|next| *spent = next.spent),
        );
        let error = match taken {
            Ok(Ok(())) => {
                if self.common.count_calls {
                    self.counters.add(ADMITTED);
                }
                return Ok(());
            }
            Ok(Err(short)) => {
                self.counters.add(REFUSED);
                let retry_after = match short {
                    Short::For(nanos) => RetryAfter::nanos(nanos),
                    Short::Never | Short::Behind => RetryAfter::UNKNOWN,
                };
                let per_second = self.per_second.load(Ordering::Relaxed);
                Error::rate_limited(self.common.name, per_second, retry_after)
            }
            Err(_) => {
                self.counters.add(TOO_MANY_KEYS);
                Error::too_many_keys(self.common.name, self.spent.max_keys() as u32)
            }
        };
        self.common.refused(|| error.clone());
        Err(error)
    }
}

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
pub struct KeyedRateLimitLayer<K, X, R = AsError, C = OneToken> {
    shared: Arc<Shared<K>>,
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
        check_max_keys(max_keys)?;
        let shared = Arc::new(Shared {
            anchor: config.common.clock.now(),
            spent: KeyMap::new(max_keys, Plan::new(&config)),
            per_second: AtomicU32::new(config.per_second().to_bits()),
            counters: Counters::new(),
            common: config.common,
            changing: Mutex::new(()),
        });
        Ok(Self { shared, key, reject: AsError, cost: OneToken })
    }
}

fn check(config: &Config) -> Result<(), InvalidConfig> {
    config.check()?;
    if config.policy != Policy::TokenBucket {
        let policy = format!("{:?}", config.policy);
        return Err(InvalidConfig::new("policy", policy, "TokenBucket in a keyed limiter"));
    }
    Ok(())
}

impl<K, X, R, C> KeyedRateLimitLayer<K, X, R, C> {
    /// Answers refusals through `reject` instead of as errors.
    pub fn reject<T>(self, reject: T) -> KeyedRateLimitLayer<K, X, T, C> {
        KeyedRateLimitLayer { shared: self.shared, key: self.key, reject, cost: self.cost }
    }

    /// Charges each request what `cost` says.
    pub fn cost<Req, F>(self, cost: F) -> KeyedRateLimitLayer<K, X, R, F>
    where
        F: Fn(&Req) -> u32,
    {
        KeyedRateLimitLayer { shared: self.shared, key: self.key, reject: self.reject, cost }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> KeyedHandle<K> {
        KeyedHandle { shared: self.shared.clone() }
    }
}

impl<S, K, X: Clone, R: Clone, C: Clone> Layer<S> for KeyedRateLimitLayer<K, X, R, C> {
    type Service = KeyedRateLimit<S, K, X, R, C>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedRateLimit { inner, layer: self.clone() }
    }
}

impl<K, X: Clone, R: Clone, C: Clone> Clone for KeyedRateLimitLayer<K, X, R, C> {
    fn clone(&self) -> Self {
        let (key, reject, cost) = (self.key.clone(), self.reject.clone(), self.cost.clone());
        Self { shared: self.shared.clone(), key, reject, cost }
    }
}

impl<K, X, R, C> fmt::Debug for KeyedRateLimitLayer<K, X, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimitLayer")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}

/// A service behind a rate limit per key. Made by [`KeyedRateLimitLayer`].
pub struct KeyedRateLimit<S, K, X, R, C> {
    inner: S,
    layer: KeyedRateLimitLayer<K, X, R, C>,
}

impl<S, K, X, R, C, Req> Service<Req> for KeyedRateLimit<S, K, X, R, C>
where
    S: Service<Req>,
    K: Hash + Eq + Clone,
    X: Fn(&Req) -> K,
    R: Reject<S::Response, S::Error> + Clone,
    C: Cost<Req>,
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

impl<S: Clone, K, X: Clone, R: Clone, C: Clone> Clone for KeyedRateLimit<S, K, X, R, C> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, K, X, R, C> fmt::Debug for KeyedRateLimit<S, K, X, R, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedRateLimit")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish()
    }
}

/// The operator's view of a keyed limiter, and its use without tower. Cheap to clone.
pub struct KeyedHandle<K> {
    shared: Arc<Shared<K>>,
}

impl<K: Hash + Eq + Clone> KeyedHandle<K> {
    /// Takes `cost` tokens of `key`.
    ///
    /// # Errors
    /// [`RateLimited`](crate::ErrorKind::RateLimited) if they are not there, with the exact time until
    /// they are; [`TooManyKeys`](crate::ErrorKind::TooManyKeys) if there is no place for a new key.
    pub fn try_acquire(&self, key: &K, cost: u32) -> Result<(), Error> {
        self.shared.try_take(key, cost)
    }

    /// Whole tokens `key` could take now, without taking any; `None` if the key is not held, and so
    /// would start full.
    #[must_use]
    pub fn available(&self, key: &K) -> Option<u32> {
        let now = nanos_since(self.shared.anchor, self.shared.common.clock.now());
        self.shared.spent.peek(key, |plan, spent| plan.tokens(*spent, now))
    }

    /// Takes over rate and size from `config` for every key; levels stay. Takes time in the number of
    /// keys.
    ///
    /// # Errors
    /// What [`KeyedRateLimitLayer::new`] would refuse is refused and changes nothing.
    pub fn reconfigure(&self, config: &Config) -> Result<(), InvalidConfig> {
        check(config)?;
        let shared = &self.shared;
        let one_at_a_time = lock(&shared.changing);
        let plan = Plan::new(config);
        let now = nanos_since(shared.anchor, shared.common.clock.now());
        shared.spent.change(&plan, |old, spent| *spent = plan.carry(old, *spent, now));
        shared.per_second.store(config.per_second().to_bits(), Ordering::Relaxed);
        drop(one_at_a_time);
        shared.common.reconfigured();
        Ok(())
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> KeyedStats {
        let shared = &self.shared;
        KeyedStats {
            keys: shared.spent.len(),
            max_keys: shared.spent.max_keys(),
            refused: shared.counters.sum(REFUSED),
            too_many_keys: shared.counters.sum(TOO_MANY_KEYS),
            admitted: shared.common.count_calls.then(|| shared.counters.sum(ADMITTED)),
        }
    }
}

impl<K> Clone for KeyedHandle<K> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<K> fmt::Debug for KeyedHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedHandle")
            .field("name", &self.shared.common.name)
            .field("keys", &self.shared.spent)
            .finish_non_exhaustive()
    }
}

/// A snapshot of a keyed limiter.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyedStats {
    /// Keys held now.
    pub keys: usize,
    /// The most keys that are ever held.
    pub max_keys: usize,
    /// Calls refused for want of tokens.
    pub refused: u64,
    /// Calls refused because there was no place for their key.
    pub too_many_keys: u64,
    /// Calls admitted; `None` unless [`count_calls`](Config::count_calls) is on.
    pub admitted: Option<u64>,
}
