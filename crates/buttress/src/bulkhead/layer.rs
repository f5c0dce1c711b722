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
use crate::vocabulary::until::UntilResponse;

/// Layer that limits how many calls run concurrently. The [module](super) explains the pattern.
///
/// Every service made from one layer value, or from its clones, shares one limit.
#[must_use]
pub struct BulkheadLayer<R = AsError, M = Refuse, O: Own = Counted, U = UntilResponse> {
    shared: O::Of<Shared>,
    reject: R,
    until: U,
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
        Self { shared, reject: AsError, until: UntilResponse, mode: PhantomData }
    }
}

impl<R, U> BulkheadLayer<R, Refuse, Counted, U> {
    /// Keeps the layer's state until the process ends. Use it for layers that are built once.
    ///
    /// The services of a leaked layer count no references. A clone of a service then writes no cache
    /// line that all threads share. A call writes only the lines that hold its decisions.
    pub fn leak(self) -> BulkheadLayer<R, Refuse, Leaked, U> {
        let Self { shared, reject, until, mode } = self;
        BulkheadLayer { shared: Forever::new(shared), reject, until, mode }
    }
}

impl<R, M, U> BulkheadLayer<R, M, Counted, U> {
    /// Lets calls wait in the configured queue, in their response futures. The inner service must
    /// be `Clone`: a waiting call holds no part of the service, and polls a clone when it is
    /// admitted.
    pub fn queued(self) -> BulkheadLayer<R, Queued, Counted, U> {
        let Self { shared, reject, until, .. } = self;
        BulkheadLayer { shared, reject, until, mode: PhantomData }
    }

    /// Makes `poll_ready` wait for a permit.
    ///
    /// The bounds of the configured queue do not apply: a caller that does not want to wait drops
    /// the service or polls another one. A service that is granted a permit and is not polled keeps
    /// the permit for [`claim_within`](Config::claim_within).
    pub fn backpressure(self) -> BulkheadLayer<R, Backpressure, Counted, U> {
        let Self { shared, reject, until, .. } = self;
        BulkheadLayer { shared, reject, until, mode: PhantomData }
    }
}

impl<R, M, O: Own, U> BulkheadLayer<R, M, O, U> {
    /// Sets how refusals are returned. Default: as errors, through [`AsError`].
    pub fn reject<T>(self, reject: T) -> BulkheadLayer<T, M, O, U> {
        let Self { shared, until, mode, .. } = self;
        BulkheadLayer { shared, reject, until, mode }
    }

    /// Sets when a call is over and returns its permit. Default: [`UntilResponse`]. The [module](super) describes
    /// the choice for streaming bodies.
    pub fn until<T>(self, until: T) -> BulkheadLayer<R, M, O, T> {
        let Self { shared, reject, mode, .. } = self;
        BulkheadLayer { shared, reject, until, mode }
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

impl<S, R: Clone, O: Own, U: Clone> Layer<S> for BulkheadLayer<R, Refuse, O, U> {
    type Service = Bulkhead<S, R, O, U>;

    fn layer(&self, inner: S) -> Self::Service {
        Bulkhead::new(inner, self.shared.clone(), self.reject.clone(), self.until.clone())
    }
}

impl<S, R: Clone, U: Clone> Layer<S> for BulkheadLayer<R, Queued, Counted, U> {
    type Service = QueuedBulkhead<S, R, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let (reject, until) = (self.reject.clone(), self.until.clone());
        QueuedBulkhead::new(inner, self.shared.clone(), reject, OneToken, until)
    }
}

impl<S, R: Clone, U: Clone> Layer<S> for BulkheadLayer<R, Backpressure, Counted, U> {
    type Service = BackpressureBulkhead<S, R, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let (reject, until) = (self.reject.clone(), self.until.clone());
        BackpressureBulkhead::new(inner, self.shared.clone(), reject, until)
    }
}

impl<R: Clone, M, O: Own, U: Clone> Clone for BulkheadLayer<R, M, O, U> {
    fn clone(&self) -> Self {
        let (reject, until) = (self.reject.clone(), self.until.clone());
        Self { shared: self.shared.clone(), reject, until, mode: PhantomData }
    }
}

impl<R, M, O: Own, U> fmt::Debug for BulkheadLayer<R, M, O, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadLayer").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
