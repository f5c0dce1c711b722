use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use tower::Layer;

use super::backpressure::BackpressureCircuitBreaker;
use super::config::Config;
use super::handle::Handle;
use super::service::CircuitBreaker;
use super::shared::Shared;
use crate::machinery::own::{Counted, Forever, Held as _, Leaked, Own};
use crate::vocabulary::classify::ServiceErrors;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::mode::{Backpressure, Refuse};
use crate::vocabulary::reject::AsError;
use crate::vocabulary::until::UntilResponse;

/// Layer that stops calling a service that fails. The [module](super) explains the pattern.
///
/// Every service made from one layer value, or from its clones, shares one circuit.
#[must_use]
pub struct CircuitBreakerLayer<
    C = ServiceErrors,
    R = AsError,
    M = Refuse,
    O: Own = Counted,
    U = UntilResponse,
> {
    shared: O::Of<Shared>,
    classify: C,
    reject: R,
    until: U,
    mode: PhantomData<M>,
}

impl Config {
    /// Builds a closed circuit with its own state. Short for [`CircuitBreakerLayer::new`].
    ///
    /// # Errors
    /// The errors of [`CircuitBreakerLayer::new`]: an error names the first field that is out of
    /// its bounds.
    pub fn build(self) -> Result<CircuitBreakerLayer, InvalidConfig> {
        CircuitBreakerLayer::new(self)
    }
}

impl CircuitBreakerLayer {
    /// Creates a closed circuit with its own state.
    ///
    /// # Errors
    /// Counts or times of zero, shares outside of 0 to 1, or rules that contradict each other.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        Ok(Self::over(Shared::new(&config)?))
    }

    /// Creates another layer over the state of an existing circuit.
    pub fn from_handle(handle: &Handle) -> Self {
        Self::over(handle.shared.clone())
    }

    fn over(shared: Arc<Shared>) -> Self {
        let until = UntilResponse;
        Self { shared, classify: ServiceErrors, reject: AsError, until, mode: PhantomData }
    }
}

impl<C, R, U> CircuitBreakerLayer<C, R, Refuse, Counted, U> {
    /// Keeps the layer's state until the process ends. Use it for layers that are built once.
    ///
    /// The services of a leaked layer count no references. A clone of a service then writes no cache
    /// line that all threads share. A call writes only the lines that hold its decisions.
    pub fn leak(self) -> CircuitBreakerLayer<C, R, Refuse, Leaked, U> {
        let Self { shared, classify, reject, until, mode } = self;
        CircuitBreakerLayer { shared: Forever::new(shared), classify, reject, until, mode }
    }
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

    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.counted().clone() }
    }
}

impl Default for CircuitBreakerLayer {
    /// Creates a circuit that opens for 30 seconds after five failures in a row. One successful
    /// probe closes it.
    fn default() -> Self {
        match Self::new(Config::new()) {
            Ok(layer) => layer,
            Err(error) => unreachable!("the defaults are valid: {error}"),
        }
    }
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

impl<C: Clone, R: Clone, M, O: Own, U: Clone> Clone for CircuitBreakerLayer<C, R, M, O, U> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
            classify: self.classify.clone(),
            reject: self.reject.clone(),
            until: self.until.clone(),
            mode: PhantomData,
        }
    }
}

impl<C, R, M, O: Own, U> fmt::Debug for CircuitBreakerLayer<C, R, M, O, U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreakerLayer")
            .field("handle", &self.handle())
            .finish_non_exhaustive()
    }
}
