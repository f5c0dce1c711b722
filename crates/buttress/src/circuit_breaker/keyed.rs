//! A separate circuit breaker for each key.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use tower::Service;

use super::admission::Admission;
use super::config::Config;
use super::future::ResponseFuture;
use super::shared::{Counter, Shared, Telemetry};
use crate::machinery::instances::{Instance, Instances, numbers_of_keys};
use crate::machinery::keyed::{self, KeyedCalls, KeyedLayer, KeyedService, PerKey as _};
use crate::machinery::own::Counted;
use crate::vocabulary::classify::{Classify, ServiceErrors};
use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::Common;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::reject::{AsError, Reject};
use crate::vocabulary::until::{Until, UntilResponse};

/// A layer that stops calling a failing service, separately for each key: per endpoint, upstream or
/// tenant.
///
/// The layer holds at most `max_keys` keys. A new key takes the place of a long unused key without
/// a running call. The layer examines a few of the longest unused keys. If it can forget none of
/// them, it refuses the call with [`TooManyKeys`](crate::ErrorKind::TooManyKeys). A circuit that
/// opened is kept for twice its open time, unless it closes first. A circuit that an operator
/// forced is never forgotten.
///
/// The key is known only in `call`. A refused call therefore leaves the inner service ready, with
/// everything that it has reserved, until this service value is called again or dropped.
///
/// ```
/// use buttress::circuit_breaker::{Config, KeyedCircuitBreakerLayer};
/// struct Request { upstream: u32 }
/// let config = Config::new().consecutive_failures(1);
/// let layer = KeyedCircuitBreakerLayer::new(config, 1000, |request: &Request| request.upstream)?;
/// layer.handle().try_acquire(&7)?.failure();
/// assert!(layer.handle().try_acquire(&7).is_err());
/// assert!(layer.handle().try_acquire(&8).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub type KeyedCircuitBreakerLayer<K, X, C = ServiceErrors, R = AsError, U = UntilResponse> =
    KeyedLayer<Instances<K, Shared>, X, R, (C, U)>;

/// A service behind a circuit breaker per key. [`KeyedCircuitBreakerLayer`] makes it.
pub type KeyedCircuitBreaker<S, K, X, C, R, U = UntilResponse> =
    KeyedService<S, Instances<K, Shared>, X, R, (C, U)>;

/// The handle of a keyed breaker, for operators and for use without tower. Cheap to clone.
pub type KeyedHandle<K> = keyed::KeyedHandle<Instances<K, Shared>>;

impl<K: Hash + Eq + Clone, X> KeyedCircuitBreakerLayer<K, X> {
    /// Creates a layer with a circuit for each key that `key` returns, for at most `max_keys` keys.
    ///
    /// # Errors
    /// Returns the errors of [`CircuitBreakerLayer::new`](super::CircuitBreakerLayer::new), and an error for `max_keys`
    /// of zero.
    pub fn new<Req>(config: Config, max_keys: usize, key: X) -> Result<Self, InvalidConfig>
    where
        X: Fn(&Req) -> K,
    {
        config.check()?;
        let telemetry = Telemetry::new(config.common.of_keys(Pattern::CircuitBreaker));
        let ask = (ServiceErrors, UntilResponse);
        Ok(Self::over(Instances::new(config, max_keys, telemetry)?, key, AsError, ask))
    }
}

impl<K, X, C, R, U> KeyedCircuitBreakerLayer<K, X, C, R, U> {
    /// Sets the classifier of results. Default: [`ServiceErrors`].
    pub fn classify<T>(self, classify: T) -> KeyedCircuitBreakerLayer<K, X, T, R, U> {
        self.asking(|(_, until)| (classify, until))
    }

    /// Sets when a call is over and its outcome counts. Default: [`UntilResponse`]. The [module](super) describes
    /// the choice for streaming bodies.
    pub fn until<T>(self, until: T) -> KeyedCircuitBreakerLayer<K, X, C, R, T> {
        self.asking(|(classify, _)| (classify, until))
    }
}

impl<S, K, C, R, Req, F, U> KeyedCalls<S, Req, R, (C, U)> for Instances<K, Shared>
where
    S: Service<Req, Future = F>,
    F: Future<Output = Result<S::Response, S::Error>>,
    C: Classify<S::Response, S::Error> + Clone,
    K: Hash + Eq + Clone,
    R: Reject<S::Response, S::Error> + Clone,
    U: Until<S::Response> + Clone,
{
    type Future = ResponseFuture<F, C, R, Counted, U>;

    fn admit(&self, key: &K, _request: &Req, _ask: &(C, U)) -> Result<Admission, Error> {
        Self::begin(self, key)
    }

    fn running(future: F, admission: Admission, (classify, until): &(C, U)) -> Self::Future {
        ResponseFuture::running(future, admission, classify.clone(), until.clone())
    }

    fn refused(error: Error, reject: &R) -> Self::Future {
        ResponseFuture::refused(error, reject.clone())
    }
}

impl Instance for Shared {
    type Telemetry = Telemetry;
    type Pass = Admission;

    fn with_telemetry(config: &Arc<Config>, telemetry: &Arc<Telemetry>) -> Arc<Self> {
        Self::made(config, telemetry.clone())
    }

    fn is_at_rest(&self) -> bool {
        self.state.is_at_rest(|| self.now())
    }

    fn begin(self: &Arc<Self>) -> Result<Admission, Error> {
        let mut admission = Self::admit::<Counted>(self).map_err(|error| self.refuse(error))?;
        admission.begin();
        Ok(admission)
    }

    fn named(config: &Config, telemetry: &Telemetry) -> Config {
        Config { common: telemetry.common.clone(), ..config.clone() }
    }
}

numbers_of_keys! {
    /// A snapshot of a keyed breaker.
    refused: "Calls refused because the circuit of their key admitted none.",
    /// How many times a circuit opened by itself.
    opened: u64 = Opened,
    /// Calls that failed.
    failures: u64 = Failed,
    counted:
    /// Calls admitted. `None` unless [`count_calls`](Config::count_calls) is on.
    admitted = Admitted,
    /// Calls that succeeded. `None` unless [`count_calls`](Config::count_calls) is on.
    successes = Succeeded,
}
