//! A separate bulkhead for each key.

use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;

use tower::Service;

use super::config::Config;
use super::service::ResponseFuture;
use super::shared::{Counter, Permit, Shared, Telemetry};
use crate::machinery::instances::{Instance, Instances, numbers_of_keys};
use crate::machinery::keyed::{self, KeyedCalls, KeyedLayer, KeyedService, PerKey as _};
use crate::machinery::own::Counted;
use crate::machinery::waiting::Limiter as _;
use crate::vocabulary::error::Error;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::observe::Common;
use crate::vocabulary::pattern::Pattern;
use crate::vocabulary::reject::{AsError, Reject};
use crate::vocabulary::until::{Until, UntilResponse};

/// A layer that limits how many calls run concurrently, separately for each key: per tenant or per
/// endpoint.
///
/// The layer holds at most `max_keys` keys. A new key takes the place of a long unused key without
/// a running call. If there is none, the layer refuses the call with
/// [`TooManyKeys`](crate::ErrorKind::TooManyKeys).
///
/// A keyed bulkhead refuses calls and has no queue, so it has no method `queued` or `backpressure`. `poll_ready` cannot
/// wait for a permit, because it does not know the key. A queue per key would let the waiting calls grow with the number
/// of keys. To wait for a permit, use the handle of one key, [`KeyedHandle::get`], or repeat refused calls with a
/// [retry](crate::retry) outside of the bulkhead.
///
/// The key is known only in `call`. A refused call therefore leaves the inner service ready, with
/// everything that it has reserved, until this service value is called again or dropped.
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
#[doc(alias = "queued")]
pub type KeyedBulkheadLayer<K, X, R = AsError, U = UntilResponse> =
    KeyedLayer<Instances<K, Shared>, X, R, U>;

/// A service behind a bulkhead per key. [`KeyedBulkheadLayer`] makes it.
pub type KeyedBulkhead<S, K, X, R, U = UntilResponse> =
    KeyedService<S, Instances<K, Shared>, X, R, U>;

/// The handle of a keyed bulkhead, for operators and for use without tower. Cheap to clone.
pub type KeyedHandle<K> = keyed::KeyedHandle<Instances<K, Shared>>;

impl<K: Hash + Eq + Clone, X> KeyedBulkheadLayer<K, X> {
    /// Creates a layer with a bulkhead for each key that `key` returns, for at most `max_keys`
    /// keys. A configured queue does not apply.
    ///
    /// # Errors
    /// Returns the errors of [`BulkheadLayer::new`](super::BulkheadLayer::new), and an error for `max_keys` of zero.
    pub fn new<Req>(config: Config, max_keys: usize, key: X) -> Result<Self, InvalidConfig>
    where
        X: Fn(&Req) -> K,
    {
        config.check()?;
        let telemetry = Telemetry::new(config.common.of_keys(Pattern::Bulkhead));
        Ok(Self::over(Instances::new(config, max_keys, telemetry)?, key, AsError, UntilResponse))
    }
}

impl<K, X, R, U> KeyedBulkheadLayer<K, X, R, U> {
    /// Sets when a call is over and returns its permit. Default: [`UntilResponse`]. The [module](super) describes
    /// the choice for streaming bodies.
    pub fn until<T>(self, until: T) -> KeyedBulkheadLayer<K, X, R, T> {
        self.asking(|_| until)
    }
}

impl<S, K, R, Req, F, U> KeyedCalls<S, Req, R, U> for Instances<K, Shared>
where
    S: Service<Req, Future = F>,
    F: Future<Output = Result<S::Response, S::Error>>,
    K: Hash + Eq + Clone,
    R: Reject<S::Response, S::Error> + Clone,
    U: Until<S::Response> + Clone,
{
    type Future = ResponseFuture<F, R, Counted, U>;

    fn admit(&self, key: &K, _request: &Req, _until: &U) -> Result<Permit, Error> {
        Self::begin(self, key)
    }

    fn running(future: F, permit: Permit, until: &U) -> Self::Future {
        ResponseFuture::running(future, permit, until.clone())
    }

    fn refused(error: Error, reject: &R) -> Self::Future {
        ResponseFuture::refused(error, reject.clone())
    }
}

impl Instance for Shared {
    type Telemetry = Telemetry;
    type Pass = Permit;

    fn with_telemetry(config: &Arc<Config>, telemetry: &Arc<Telemetry>) -> Arc<Self> {
        Self::made(config, telemetry.clone())
    }

    fn is_at_rest(&self) -> bool {
        // A running call has a permit, which holds the bulkhead. Here no permit exists, so no call
        // runs.
        true
    }

    fn begin(self: &Arc<Self>) -> Result<Permit, Error> {
        self.take()
    }

    fn named(config: &Config, telemetry: &Telemetry) -> Config {
        Config { common: telemetry.common.clone(), ..config.clone() }
    }
}

numbers_of_keys! {
    /// A snapshot of a keyed bulkhead.
    refused: "Calls refused because their key was at capacity.",
    counted:
    /// Permits granted. `None` unless [`count_calls`](Config::count_calls) is on.
    admitted = Admitted,
}
