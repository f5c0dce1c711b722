use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tower::Layer;

use super::backpressure::BackpressureCircuitBreaker;
use super::config::Config;
use super::handle::Handle;
use super::service::CircuitBreaker;
use super::shared::Shared;
use crate::vocabulary::classify::ServiceErrors;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::mode::{Backpressure, Refuse};
use crate::vocabulary::reject::AsError;

/// Stops calling a service that fails. See the [module](super) for everything else.
///
/// Every service made from one layer value, or from its clones, shares one circuit.
#[must_use]
pub struct CircuitBreakerLayer<C = ServiceErrors, R = AsError, M = Refuse> {
    shared: Arc<Shared>,
    classify: C,
    reject: R,
    mode: PhantomData<M>,
}

impl Config {
    /// Builds a closed circuit with its own state. Short for [`CircuitBreakerLayer::new`].
    ///
    /// # Errors
    /// As [`CircuitBreakerLayer::new`]: names the first field that is out of its bounds.
    pub fn build(self) -> Result<CircuitBreakerLayer, InvalidConfig> {
        CircuitBreakerLayer::new(self)
    }
}

impl CircuitBreakerLayer {
    /// Creates a circuit of its own, closed.
    ///
    /// # Errors
    /// Counts or times of zero, shares outside of 0 to 1, or rules that contradict each other.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        Ok(Self::over(Shared::new(&config)?))
    }

    /// Another layer over the state of an existing circuit.
    pub fn from_handle(handle: &Handle) -> Self {
        Self::over(handle.shared.clone())
    }

    fn over(shared: Arc<Shared>) -> Self {
        Self { shared, classify: ServiceErrors, reject: AsError, mode: PhantomData }
    }
}

impl<C, R, M> CircuitBreakerLayer<C, R, M> {
    /// Judges results through `classify`.
    pub fn classify<T>(self, classify: T) -> CircuitBreakerLayer<T, R, M> {
        let Self { shared, reject, mode, .. } = self;
        CircuitBreakerLayer { shared, classify, reject, mode }
    }

    /// Answers refusals through `reject` instead of as errors.
    pub fn reject<T>(self, reject: T) -> CircuitBreakerLayer<C, T, M> {
        let Self { shared, classify, mode, .. } = self;
        CircuitBreakerLayer { shared, classify, reject, mode }
    }

    /// Makes `poll_ready` wait while the circuit takes no calls.
    pub fn backpressure(self) -> CircuitBreakerLayer<C, R, Backpressure> {
        let Self { shared, classify, reject, .. } = self;
        CircuitBreakerLayer { shared, classify, reject, mode: PhantomData }
    }

    /// Returns the operator's view of the shared state.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.clone() }
    }
}

impl Default for CircuitBreakerLayer {
    /// Five failures in a row open the circuit for 30 seconds; one successful probe closes it.
    fn default() -> Self {
        match Self::new(Config::new()) {
            Ok(layer) => layer,
            Err(error) => unreachable!("the defaults are valid: {error}"),
        }
    }
}

impl<S, C: Clone, R: Clone> Layer<S> for CircuitBreakerLayer<C, R, Refuse> {
    type Service = CircuitBreaker<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let (classify, reject) = (self.classify.clone(), self.reject.clone());
        CircuitBreaker::new(inner, self.shared.clone(), classify, reject)
    }
}

impl<S, C: Clone, R: Clone> Layer<S> for CircuitBreakerLayer<C, R, Backpressure> {
    type Service = BackpressureCircuitBreaker<S, C, R>;

    fn layer(&self, inner: S) -> Self::Service {
        let (classify, reject) = (self.classify.clone(), self.reject.clone());
        BackpressureCircuitBreaker::new(inner, self.shared.clone(), classify, reject)
    }
}

impl<C: Clone, R: Clone, M> Clone for CircuitBreakerLayer<C, R, M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            classify: self.classify.clone(),
            reject: self.reject.clone(),
            mode: PhantomData,
        }
    }
}

impl<C, R, M> fmt::Debug for CircuitBreakerLayer<C, R, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
