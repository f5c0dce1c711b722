//! A circuit breaker per key.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::admission::Admission;
use super::config::Config;
use super::future::ResponseFuture;
use super::handle::Handle;
use super::shared::{Shared, Telemetry};
use super::state::State;
use crate::machinery::counters::Counters;
use crate::machinery::keyed::{Full, KeyMap, check_max_keys};
use crate::sync::{Mutex, lock};
use crate::vocabulary::classify::{Classify, ServiceErrors};
use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::reject::{AsError, Reject};

/// What every service of one layer shares.
#[derive(Debug)]
struct Keys<K> {
    /// Each made by the rules in force.
    circuits: KeyMap<K, Arc<Shared>, Arc<Config>>,
    /// Keeps changes of the rules apart.
    changing: Mutex<()>,
    too_many_keys: Counters<1>,
    /// A circuit nobody calls, to ask whether new rules fit.
    pattern: State,
    telemetry: Arc<Telemetry>,
}

impl<K: Hash + Eq + Clone> Keys<K> {
    /// The circuit of `key`.
    fn of(&self, key: &K) -> Result<Arc<Shared>, Error> {
        let make = |config: &Arc<Config>| Shared::with_telemetry(config, self.telemetry.clone());
        // Nobody else holds it: no call runs, and no handle is out.
        let at_rest = |_: &Arc<Config>, circuit: &Arc<Shared>| {
            Arc::strong_count(circuit) == 1 && circuit.state.is_at_rest(|| circuit.now())
        };
        self.circuits.with(key, make, at_rest, |_, circuit| circuit.clone()).map_err(|Full| {
            self.too_many_keys.add(0);
            let max_keys = self.circuits.max_keys() as u32;
            let error = Error::too_many_keys(self.telemetry.common.name, max_keys);
            self.telemetry.common.refused(|| error.clone());
            error
        })
    }

    fn admit(&self, key: &K) -> Result<Admission, Error> {
        let circuit = self.of(key)?;
        let mut admission = circuit.admit().map_err(|error| circuit.refuse(error))?;
        admission.begin();
        Ok(admission)
    }
}

/// Stops calling what fails, for each key apart: per endpoint, per upstream, per tenant.
///
/// At most `max_keys` are held: a new key takes the place of a long unused one with no call running,
/// and is refused with [`TooManyKeys`](crate::ErrorKind::TooManyKeys) while a look at a few of the
/// longest unused finds none. A circuit that opened is not forgotten before it would have probed, nor until
/// as long again after that, unless it closes first. One that an operator forced is never forgotten.
///
/// The key is known only in `call`, so a refused call leaves the inner service ready, with whatever it
/// had reserved, until this service value is called again or dropped.
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
#[must_use]
pub struct KeyedCircuitBreakerLayer<K, X, C = ServiceErrors, R = AsError> {
    keys: Arc<Keys<K>>,
    key: X,
    classify: C,
    reject: R,
}

impl<K: Hash + Eq + Clone, X> KeyedCircuitBreakerLayer<K, X> {
    /// A circuit for each key that `key` finds, at most `max_keys` of them.
    ///
    /// # Errors
    /// What [`CircuitBreakerLayer::new`](super::CircuitBreakerLayer::new) refuses, or no keys.
    pub fn new<Req>(config: Config, max_keys: usize, key: X) -> Result<Self, InvalidConfig>
    where
        X: Fn(&Req) -> K,
    {
        config.check()?;
        check_max_keys(max_keys)?;
        let keys = Arc::new(Keys {
            pattern: State::new(&config, false, config.common.clock.now()),
            telemetry: Telemetry::new(&config),
            circuits: KeyMap::new(max_keys, Arc::new(config)),
            changing: Mutex::new(()),
            too_many_keys: Counters::new(),
        });
        Ok(Self { keys, key, classify: ServiceErrors, reject: AsError })
    }
}

impl<K, X, C, R> KeyedCircuitBreakerLayer<K, X, C, R> {
    /// Judges results through `classify`.
    pub fn classify<T>(self, classify: T) -> KeyedCircuitBreakerLayer<K, X, T, R> {
        let Self { keys, key, reject, .. } = self;
        KeyedCircuitBreakerLayer { keys, key, classify, reject }
    }

    /// Answers refusals through `reject` instead of as errors.
    pub fn reject<T>(self, reject: T) -> KeyedCircuitBreakerLayer<K, X, C, T> {
        let Self { keys, key, classify, .. } = self;
        KeyedCircuitBreakerLayer { keys, key, classify, reject }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> KeyedHandle<K> {
        KeyedHandle { keys: self.keys.clone() }
    }
}

impl<S, K, X: Clone, C: Clone, R: Clone> Layer<S> for KeyedCircuitBreakerLayer<K, X, C, R> {
    type Service = KeyedCircuitBreaker<S, K, X, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedCircuitBreaker { inner, layer: self.clone() }
    }
}

impl<K, X: Clone, C: Clone, R: Clone> Clone for KeyedCircuitBreakerLayer<K, X, C, R> {
    fn clone(&self) -> Self {
        let (classify, reject) = (self.classify.clone(), self.reject.clone());
        Self { keys: self.keys.clone(), key: self.key.clone(), classify, reject }
    }
}

impl<K, X, C, R> fmt::Debug for KeyedCircuitBreakerLayer<K, X, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreakerLayer")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}

/// A service behind a circuit breaker per key. Made by [`KeyedCircuitBreakerLayer`].
pub struct KeyedCircuitBreaker<S, K, X, C, R> {
    inner: S,
    layer: KeyedCircuitBreakerLayer<K, X, C, R>,
}

impl<S, K, X, C, R, Req> Service<Req> for KeyedCircuitBreaker<S, K, X, C, R>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error> + Clone,
    K: Hash + Eq + Clone,
    X: Fn(&Req) -> K,
    R: Reject<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, C, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let KeyedCircuitBreakerLayer { keys, key, classify, reject } = &self.layer;
        match keys.admit(&key(&request)) {
            Ok(admission) => {
                ResponseFuture::running(self.inner.call(request), admission, classify.clone())
            }
            Err(error) => ResponseFuture::refused(error, reject.clone()),
        }
    }
}

impl<S: Clone, K, X: Clone, C: Clone, R: Clone> Clone for KeyedCircuitBreaker<S, K, X, C, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, K, X, C, R> fmt::Debug for KeyedCircuitBreaker<S, K, X, C, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedCircuitBreaker")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish()
    }
}

/// The operator's view of a keyed breaker, and its use without tower. Cheap to clone.
pub struct KeyedHandle<K> {
    keys: Arc<Keys<K>>,
}

impl<K: Hash + Eq + Clone> KeyedHandle<K> {
    /// Asks to make a call to `key`.
    ///
    /// # Errors
    /// [`CircuitOpen`](crate::ErrorKind::CircuitOpen) if its circuit takes no calls,
    /// [`TooManyKeys`](crate::ErrorKind::TooManyKeys) if there is no place for a new key.
    pub fn try_acquire(&self, key: &K) -> Result<Admission, Error> {
        self.keys.admit(key)
    }

    /// The handle of one key's circuit; `None` if the key is not held. The key cannot be forgotten while
    /// a handle of it is kept. Its state and window are its own, its counters are those of all keys.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<Handle> {
        self.keys.circuits.peek(key, |_, shared| Handle { shared: shared.clone() })
    }

    /// Takes over the rules of `config` for every key, now and to come. Takes time in the number of
    /// keys.
    ///
    /// # Errors
    /// What [`KeyedCircuitBreakerLayer::new`] would refuse, and a change of the window's kind or size, is
    /// refused and changes nothing.
    pub fn reconfigure(&self, config: &Config) -> Result<(), InvalidConfig> {
        config.check()?;
        let one_at_a_time = lock(&self.keys.changing);
        // All circuits have the kind of window that the first rules said.
        self.keys.pattern.accepts(config)?;
        let rules = Arc::new(config.clone());
        self.keys.circuits.change(&rules, |_, circuit| circuit.state.apply(config));
        drop(one_at_a_time);
        self.keys.telemetry.common.reconfigured();
        Ok(())
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> KeyedStats {
        KeyedStats {
            keys: self.keys.circuits.len(),
            max_keys: self.keys.circuits.max_keys(),
            refused: self.keys.telemetry.refused(),
            too_many_keys: self.keys.too_many_keys.sum(0),
            opened: self.keys.telemetry.opened(),
        }
    }
}

impl<K> Clone for KeyedHandle<K> {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone() }
    }
}

impl<K> fmt::Debug for KeyedHandle<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedHandle")
            .field("name", &self.keys.telemetry.common.name)
            .field("keys", &self.keys.circuits)
            .finish_non_exhaustive()
    }
}

/// A snapshot of a keyed breaker.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyedStats {
    /// Keys held now.
    pub keys: usize,
    /// The most keys that are ever held.
    pub max_keys: usize,
    /// Calls refused because the circuit of their key took none.
    pub refused: u64,
    /// Calls refused because there was no place for their key.
    pub too_many_keys: u64,
    /// How often a circuit opened by itself.
    pub opened: u64,
}
