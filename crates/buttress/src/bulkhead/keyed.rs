//! A bulkhead per key.

use std::fmt;
use std::hash::Hash;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::{Layer, Service};

use super::config::Config;
use super::handle::Handle;
use super::service::ResponseFuture;
use super::shared::{Permit, Shared, Telemetry};
use crate::machinery::counters::Counters;
use crate::machinery::keyed::{Full, KeyMap, check_max_keys};
use crate::machinery::waiting;
use crate::sync::{Mutex, lock};
use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::reject::{AsError, Reject};

/// What every service of one layer shares.
#[derive(Debug)]
struct Keys<K> {
    /// Each made by the rules in force.
    bulkheads: KeyMap<K, Arc<Shared>, Arc<Config>>,
    /// Keeps changes of the rules apart.
    changing: Mutex<()>,
    too_many_keys: Counters<1>,
    telemetry: Arc<Telemetry>,
}

impl<K: Hash + Eq + Clone> Keys<K> {
    /// The bulkhead of `key`.
    fn of(&self, key: &K) -> Result<Arc<Shared>, Error> {
        let make = |config: &Arc<Config>| Shared::with_telemetry(config, self.telemetry.clone());
        // Nobody else holds it: no call runs, and no handle is out.
        let at_rest = |_: &Arc<Config>, bulkhead: &Arc<Shared>| Arc::strong_count(bulkhead) == 1;
        self.bulkheads.with(key, make, at_rest, |_, bulkhead| bulkhead.clone()).map_err(|Full| {
            self.too_many_keys.add(0);
            let max_keys = self.bulkheads.max_keys() as u32;
            let error = Error::too_many_keys(self.telemetry.common.name, max_keys);
            self.telemetry.common.refused(|| error.clone());
            error
        })
    }

    fn try_acquire(&self, key: &K) -> Result<Permit, Error> {
        let bulkhead = self.of(key)?;
        bulkhead.try_acquire().map(Permit::begin).ok_or_else(|| bulkhead.refuse())
    }
}

/// Limits how many calls run at once, for each key apart: per tenant, per endpoint.
///
/// At most `max_keys` are held: a new key takes the place of a long unused one with no call running,
/// and is refused with [`TooManyKeys`](crate::ErrorKind::TooManyKeys) while there is none.
///
/// The key is known only in `call`, so a refused call leaves the inner service ready, with whatever it
/// had reserved, until this service value is called again or dropped.
///
/// ```
/// use buttress::bulkhead::{Config, KeyedBulkheadLayer};
/// struct Request { tenant: u32 }
/// let config = Config::new().max_concurrent(1);
/// let layer = KeyedBulkheadLayer::new(config, 10_000, |request: &Request| request.tenant)?;
/// let _running = layer.handle().try_acquire(&7)?;
/// assert!(layer.handle().try_acquire(&7).is_err());
/// assert!(layer.handle().try_acquire(&8).is_ok());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct KeyedBulkheadLayer<K, X, R = AsError> {
    keys: Arc<Keys<K>>,
    key: X,
    reject: R,
}

impl<K: Hash + Eq + Clone, X> KeyedBulkheadLayer<K, X> {
    /// A bulkhead for each key that `key` finds, at most `max_keys` of them. A configured queue does
    /// not apply.
    ///
    /// # Errors
    /// What [`BulkheadLayer::new`](super::BulkheadLayer::new) refuses, or no keys.
    pub fn new<Req>(config: Config, max_keys: usize, key: X) -> Result<Self, InvalidConfig>
    where
        X: Fn(&Req) -> K,
    {
        config.check()?;
        check_max_keys(max_keys)?;
        let keys = Arc::new(Keys {
            telemetry: Telemetry::new(&config),
            bulkheads: KeyMap::new(max_keys, Arc::new(config)),
            changing: Mutex::new(()),
            too_many_keys: Counters::new(),
        });
        Ok(Self { keys, key, reject: AsError })
    }
}

impl<K, X, R> KeyedBulkheadLayer<K, X, R> {
    /// Answers refusals through `reject` instead of as errors.
    pub fn reject<T>(self, reject: T) -> KeyedBulkheadLayer<K, X, T> {
        KeyedBulkheadLayer { keys: self.keys, key: self.key, reject }
    }

    /// The operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> KeyedHandle<K> {
        KeyedHandle { keys: self.keys.clone() }
    }
}

impl<S, K, X: Clone, R: Clone> Layer<S> for KeyedBulkheadLayer<K, X, R> {
    type Service = KeyedBulkhead<S, K, X, R>;

    fn layer(&self, inner: S) -> Self::Service {
        KeyedBulkhead { inner, layer: self.clone() }
    }
}

impl<K, X: Clone, R: Clone> Clone for KeyedBulkheadLayer<K, X, R> {
    fn clone(&self) -> Self {
        Self { keys: self.keys.clone(), key: self.key.clone(), reject: self.reject.clone() }
    }
}

impl<K, X, R> fmt::Debug for KeyedBulkheadLayer<K, X, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBulkheadLayer").field("handle", &self.handle()).finish_non_exhaustive()
    }
}

/// A service behind a bulkhead per key. Made by [`KeyedBulkheadLayer`].
pub struct KeyedBulkhead<S, K, X, R> {
    inner: S,
    layer: KeyedBulkheadLayer<K, X, R>,
}

impl<S, K, X, R, Req> Service<Req> for KeyedBulkhead<S, K, X, R>
where
    S: Service<Req>,
    K: Hash + Eq + Clone,
    X: Fn(&Req) -> K,
    R: Reject<S::Response, S::Error> + Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let KeyedBulkheadLayer { keys, key, reject } = &self.layer;
        match keys.try_acquire(&key(&request)) {
            Ok(permit) => ResponseFuture::running(self.inner.call(request), permit),
            Err(error) => ResponseFuture::refused(error, reject.clone()),
        }
    }
}

impl<S: Clone, K, X: Clone, R: Clone> Clone for KeyedBulkhead<S, K, X, R> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), layer: self.layer.clone() }
    }
}

impl<S: fmt::Debug, K, X, R> fmt::Debug for KeyedBulkhead<S, K, X, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyedBulkhead")
            .field("inner", &self.inner)
            .field("layer", &self.layer)
            .finish()
    }
}

/// The operator's view of a keyed bulkhead, and its use without tower. Cheap to clone.
pub struct KeyedHandle<K> {
    keys: Arc<Keys<K>>,
}

impl<K: Hash + Eq + Clone> KeyedHandle<K> {
    /// A permit of `key`.
    ///
    /// # Errors
    /// [`BulkheadFull`](crate::ErrorKind::BulkheadFull) if none is free,
    /// [`TooManyKeys`](crate::ErrorKind::TooManyKeys) if there is no place for a new key.
    pub fn try_acquire(&self, key: &K) -> Result<Permit, Error> {
        self.keys.try_acquire(key)
    }

    /// The handle of one key's bulkhead; `None` if the key is not held. The key cannot be forgotten
    /// while a handle of it is kept. Its counters of refusals and admissions are those of all keys.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<Handle> {
        self.keys.bulkheads.peek(key, |_, shared| Handle { shared: shared.clone() })
    }

    /// Takes over the limit of `config` for every key, now and to come. Takes time in the number of
    /// keys.
    ///
    /// # Errors
    /// What [`KeyedBulkheadLayer::new`] would refuse is refused and changes nothing.
    pub fn reconfigure(&self, config: &Config) -> Result<(), InvalidConfig> {
        config.check()?;
        let one_at_a_time = lock(&self.keys.changing);
        let rules = Arc::new(config.clone());
        let mut changed = Vec::new();
        self.keys.bulkheads.change(&rules, |_, shared| {
            shared.apply(config);
            changed.push(shared.clone());
        });
        drop(one_at_a_time);
        // Outside of every lock: waking may run anything.
        changed.iter().for_each(|shared| waiting::settle(&**shared));
        self.keys.telemetry.common.reconfigured();
        Ok(())
    }

    /// The numbers as they are now.
    #[must_use]
    pub fn stats(&self) -> KeyedStats {
        KeyedStats {
            keys: self.keys.bulkheads.len(),
            max_keys: self.keys.bulkheads.max_keys(),
            refused: self.keys.telemetry.refused(),
            too_many_keys: self.keys.too_many_keys.sum(0),
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
            .field("keys", &self.keys.bulkheads)
            .finish_non_exhaustive()
    }
}

/// A snapshot of a keyed bulkhead.
#[non_exhaustive]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeyedStats {
    /// Keys held now.
    pub keys: usize,
    /// The most keys that are ever held.
    pub max_keys: usize,
    /// Calls refused because their key was at capacity.
    pub refused: u64,
    /// Calls refused because there was no place for their key.
    pub too_many_keys: u64,
}
