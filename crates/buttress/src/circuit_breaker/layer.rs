use std::marker::PhantomData;

use tower::Layer;

use super::backpressure::BackpressureCircuitBreaker;
use super::config::Config;
use super::handle::Handle;
use super::service::CircuitBreaker;
use super::shared::Shared;
use crate::machinery::own::{
    Counted, Leaked, Own, constructors, default_layer, layer_over, leak_of,
};
use crate::vocabulary::classify::ServiceErrors;
use crate::vocabulary::mode::{Backpressure, Refuse};
use crate::vocabulary::reject::AsError;
use crate::vocabulary::until::UntilResponse;

layer_over! {
    /// A layer that stops calling a service that fails. The [module](super) explains the pattern.
    ///
    /// Every service made from one layer value, or from its clones, shares one circuit.
    pub struct CircuitBreakerLayer<
        C = ServiceErrors, R = AsError, M = Refuse, O: Own = Counted, U = UntilResponse
    > {
        classify: C, reject: R, until: U; mode: M
    }
}

constructors! {
    CircuitBreakerLayer {
        classify: ServiceErrors, reject: AsError, until: UntilResponse, mode: PhantomData
    },
    "a closed circuit with its own state",
    /// Counts or times of zero, shares outside of 0 to 1, or rules that contradict each other.
}

leak_of! {
    <C, R, U> CircuitBreakerLayer { classify, reject, until, mode }:
    CircuitBreakerLayer<C, R, Refuse, Counted, U> => CircuitBreakerLayer<C, R, Refuse, Leaked, U>
}

impl<C, R, M, U> CircuitBreakerLayer<C, R, M, Counted, U> {
    /// Makes `poll_ready` wait while the circuit admits no calls.
    pub fn backpressure(self) -> CircuitBreakerLayer<C, R, Backpressure, Counted, U> {
        let Self { shared, classify, reject, until, .. } = self;
        CircuitBreakerLayer { shared, classify, reject, until, mode: PhantomData }
    }
}

impl<C, R, M, O: Own, U> CircuitBreakerLayer<C, R, M, O, U> {
    /// Sets the classifier of results. Default: [`ServiceErrors`].
    pub fn classify<T>(self, classify: T) -> CircuitBreakerLayer<T, R, M, O, U> {
        let Self { shared, reject, until, mode, .. } = self;
        CircuitBreakerLayer { shared, classify, reject, until, mode }
    }

    /// Sets how refusals are returned. Default: as errors, through [`AsError`].
    pub fn reject<T>(self, reject: T) -> CircuitBreakerLayer<C, T, M, O, U> {
        let Self { shared, classify, until, mode, .. } = self;
        CircuitBreakerLayer { shared, classify, reject, until, mode }
    }

    /// Sets when a call is over and its outcome counts. Default: [`UntilResponse`]. The [module](super) describes
    /// the choice for streaming bodies.
    pub fn until<T>(self, until: T) -> CircuitBreakerLayer<C, R, M, O, T> {
        let Self { shared, classify, reject, mode, .. } = self;
        CircuitBreakerLayer { shared, classify, reject, until, mode }
    }
}

default_layer! {
    /// Creates a circuit that opens for 30 seconds after five failures in a row. One successful
    /// probe closes it.
    CircuitBreakerLayer
}

impl<S, C: Clone, R: Clone, O: Own, U: Clone> Layer<S> for CircuitBreakerLayer<C, R, Refuse, O, U> {
    type Service = CircuitBreaker<S, C, R, O, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let (classify, reject) = (self.classify.clone(), self.reject.clone());
        CircuitBreaker::new(inner, self.shared.clone(), classify, reject, self.until.clone())
    }
}

impl<S, C: Clone, R: Clone, U: Clone> Layer<S>
    for CircuitBreakerLayer<C, R, Backpressure, Counted, U>
{
    type Service = BackpressureCircuitBreaker<S, C, R, U>;

    fn layer(&self, inner: S) -> Self::Service {
        let (classify, reject) = (self.classify.clone(), self.reject.clone());
        let (shared, until) = (self.shared.clone(), self.until.clone());
        BackpressureCircuitBreaker::new(inner, shared, classify, reject, until)
    }
}
