use std::marker::PhantomData;

use tower::Layer;

use super::config::Config;
use super::handle::Handle;
use super::service::{BackpressureBulkhead, Bulkhead, QueuedBulkhead};
use super::shared::Shared;
use crate::machinery::own::{
    Counted, Leaked, Own, constructors, default_layer, layer_over, leak_of,
};
use crate::vocabulary::cost::OneToken;
use crate::vocabulary::mode::{Backpressure, Queued, Refuse};
use crate::vocabulary::reject::AsError;
use crate::vocabulary::until::UntilResponse;

layer_over! {
    /// A layer that limits how many calls run concurrently. The [module](super) explains the pattern.
    ///
    /// Every service made from one layer value, or from its clones, shares one limit.
    pub struct BulkheadLayer<R = AsError, M = Refuse, O: Own = Counted, U = UntilResponse> {
        reject: R, until: U; mode: M
    }
}

constructors! {
    BulkheadLayer { reject: AsError, until: UntilResponse, mode: PhantomData },
    "a bulkhead with its own state",
    /// A limit or a wait of zero, or a wait of more than 365 days.
}

leak_of! {
    <R, U> BulkheadLayer { reject, until, mode }:
    BulkheadLayer<R, Refuse, Counted, U> => BulkheadLayer<R, Refuse, Leaked, U>
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
}

default_layer! {
    /// Creates a bulkhead of 10 concurrent calls, without a queue.
    BulkheadLayer
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
