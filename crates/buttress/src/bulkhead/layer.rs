use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tower::Layer;

use super::config::Config;
use super::handle::Handle;
use super::service::{BackpressureBulkhead, Bulkhead, QueuedBulkhead};
use super::shared::Shared;
use crate::machinery::own::{Counted, Forever, Held as _, Leaked, Own};
use crate::vocabulary::cost::OneToken;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::mode::{Backpressure, Queued, Refuse};
use crate::vocabulary::reject::AsError;

/// Layer that limits how many calls run concurrently. The [module](super) explains the pattern.
///
/// Every service made from one layer value, or from its clones, shares one limit.
#[must_use]
pub struct BulkheadLayer<R = AsError, M = Refuse, O: Own = Counted> {
    shared: O::Of<Shared>,
    reject: R,
    mode: PhantomData<M>,
}

impl Config {
    /// Builds a bulkhead with its own state. Short for [`BulkheadLayer::new`].
    ///
    /// # Errors
    /// The errors of [`BulkheadLayer::new`]: an error names the first field that is out of its
    /// bounds.
    pub fn build(self) -> Result<BulkheadLayer, InvalidConfig> {
        BulkheadLayer::new(self)
    }
}

impl BulkheadLayer {
    /// Creates a bulkhead with its own state.
    ///
    /// # Errors
    /// A limit or a wait of zero, or a wait of more than 365 days.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        Ok(Self::over(Shared::new(&config)?))
    }

    /// Creates another layer over the state of an existing bulkhead.
    pub fn from_handle(handle: &Handle) -> Self {
        Self::over(handle.shared.clone())
    }

    fn over(shared: Arc<Shared>) -> Self {
        Self { shared, reject: AsError, mode: PhantomData }
    }
}

impl<R> BulkheadLayer<R> {
    /// Keeps the layer's state until the process ends. Use it for layers that are built once.
    ///
    /// The services of a leaked layer count no references. A clone of a service then writes no cache
    /// line that all threads share. A call writes only the lines that hold its decisions.
    pub fn leak(self) -> BulkheadLayer<R, Refuse, Leaked> {
        let Self { shared, reject, mode } = self;
        BulkheadLayer { shared: Forever::new(shared), reject, mode }
    }
}

impl<R, M> BulkheadLayer<R, M> {
    /// Lets calls wait in the configured queue, in their response futures. The inner service must
    /// be `Clone`: a waiting call holds no part of the service, and polls a clone when it is
    /// admitted.
    pub fn queued(self) -> BulkheadLayer<R, Queued> {
        BulkheadLayer { shared: self.shared, reject: self.reject, mode: PhantomData }
    }

    /// Makes `poll_ready` wait for a permit.
    ///
    /// The bounds of the configured queue do not apply: a caller that does not want to wait drops
    /// the service or polls another one. A service that is granted a permit and is not polled keeps
    /// the permit for [`claim_within`](Config::claim_within).
    pub fn backpressure(self) -> BulkheadLayer<R, Backpressure> {
        BulkheadLayer { shared: self.shared, reject: self.reject, mode: PhantomData }
    }
}

impl<R, M, O: Own> BulkheadLayer<R, M, O> {
    /// Sets how refusals are returned. Default: as errors, through [`AsError`].
    pub fn reject<T>(self, reject: T) -> BulkheadLayer<T, M, O> {
        BulkheadLayer { shared: self.shared, reject, mode: PhantomData }
    }

    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.counted().clone() }
    }
}

impl Default for BulkheadLayer {
    /// Creates a bulkhead of 10 concurrent calls, without a queue.
    fn default() -> Self {
        match Self::new(Config::new()) {
            Ok(layer) => layer,
            Err(error) => unreachable!("the defaults are valid: {error}"),
        }
    }
}

impl<S, R: Clone, O: Own> Layer<S> for BulkheadLayer<R, Refuse, O> {
    type Service = Bulkhead<S, R, O>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead::new(inner, self.shared.clone(), self.reject.clone())
    }
}

impl<S, R: Clone> Layer<S> for BulkheadLayer<R, Queued> {
    type Service = QueuedBulkhead<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        QueuedBulkhead::new(inner, self.shared.clone(), self.reject.clone(), OneToken)
    }
}

impl<S, R: Clone> Layer<S> for BulkheadLayer<R, Backpressure> {
    type Service = BackpressureBulkhead<S, R>;

    fn layer(&self, inner: S) -> Self::Service {
        BackpressureBulkhead::new(inner, self.shared.clone(), self.reject.clone())
    }
}

impl<R: Clone, M, O: Own> Clone for BulkheadLayer<R, M, O> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), reject: self.reject.clone(), mode: PhantomData }
    }
}

impl<R, M, O: Own> fmt::Debug for BulkheadLayer<R, M, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadLayer").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
