//! [`ServiceBuilderExt`]: the layers as methods of tower's builder.

use tower::ServiceBuilder;
use tower::layer::util::Stack;

use crate::bulkhead::BulkheadLayer;
use crate::circuit_breaker::CircuitBreakerLayer;
use crate::fallback::FallbackLayer;
use crate::idempotency::IdempotencyLayer;
use crate::rate_limit::RateLimitLayer;
use crate::retry::RetryLayer;
use crate::sidecar::SidecarLayer;
use crate::time_limit::TimeLimitLayer;

/// Adds the layers of this crate to a [`ServiceBuilder`] by name.
///
/// As with every layer of a `ServiceBuilder`, the one added first is the outermost. The
/// [guide](crate::guide::ordering) says in which order they belong.
///
/// With tower's own features `retry` or `limit` enabled, its builder has methods of those names, which
/// Rust prefers over an extension's: write `.layer(retry)` and `.layer(rate_limit)` there.
///
/// ```
/// use std::time::Duration;
/// use buttress::{ServiceBuilderExt, bulkhead, circuit_breaker, retry, time_limit};
/// use tower::{BoxError, ServiceBuilder};
///
/// # fn main() -> Result<(), BoxError> {
/// let service = ServiceBuilder::new()
///     .circuit_breaker(circuit_breaker::CircuitBreakerLayer::default())
///     .bulkhead(bulkhead::BulkheadLayer::default())
///     .retry(retry::RetryLayer::default())
///     .time_limit(time_limit::TimeLimitLayer::new(
///         time_limit::Config::new(Duration::from_secs(1)),
///     )?)
///     .service_fn(async |request: u32| Ok::<u32, BoxError>(request + 1));
/// # let _ = service;
/// # Ok(())
/// # }
/// ```
pub trait ServiceBuilderExt<L>: Sized {
    /// Answers in place of a service that failed.
    fn fallback<F, C>(
        self,
        layer: FallbackLayer<F, C>,
    ) -> ServiceBuilder<Stack<FallbackLayer<F, C>, L>>;

    /// Limits how many calls pass in a time.
    fn rate_limit<R, X, M>(
        self,
        layer: RateLimitLayer<R, X, M>,
    ) -> ServiceBuilder<Stack<RateLimitLayer<R, X, M>, L>>;

    /// Stops calling a service that fails.
    fn circuit_breaker<C, R, M>(
        self,
        layer: CircuitBreakerLayer<C, R, M>,
    ) -> ServiceBuilder<Stack<CircuitBreakerLayer<C, R, M>, L>>;

    /// Limits how many calls run at once.
    fn bulkhead<R, M>(
        self,
        layer: BulkheadLayer<R, M>,
    ) -> ServiceBuilder<Stack<BulkheadLayer<R, M>, L>>;

    /// Attempts calls again that failed.
    fn retry<C, Q>(self, layer: RetryLayer<C, Q>) -> ServiceBuilder<Stack<RetryLayer<C, Q>, L>>;

    /// Cuts calls short that take too long.
    fn time_limit<T, R>(
        self,
        layer: TimeLimitLayer<T, R>,
    ) -> ServiceBuilder<Stack<TimeLimitLayer<T, R>, L>>;

    /// Does the work of a key once.
    #[expect(clippy::type_complexity, reason = "what every other method returns")]
    fn idempotency<K, V, T, R, M>(
        self,
        layer: IdempotencyLayer<K, V, T, R, M>,
    ) -> ServiceBuilder<Stack<IdempotencyLayer<K, V, T, R, M>, L>>;

    /// Everything a client needs, in the right order.
    fn sidecar<C, T, Q, R>(
        self,
        layer: SidecarLayer<C, T, Q, R>,
    ) -> ServiceBuilder<Stack<SidecarLayer<C, T, Q, R>, L>>;
}

impl<L> ServiceBuilderExt<L> for ServiceBuilder<L> {
    fn fallback<F, C>(
        self,
        layer: FallbackLayer<F, C>,
    ) -> ServiceBuilder<Stack<FallbackLayer<F, C>, L>> {
        self.layer(layer)
    }

    fn rate_limit<R, X, M>(
        self,
        layer: RateLimitLayer<R, X, M>,
    ) -> ServiceBuilder<Stack<RateLimitLayer<R, X, M>, L>> {
        self.layer(layer)
    }

    fn circuit_breaker<C, R, M>(
        self,
        layer: CircuitBreakerLayer<C, R, M>,
    ) -> ServiceBuilder<Stack<CircuitBreakerLayer<C, R, M>, L>> {
        self.layer(layer)
    }

    fn bulkhead<R, M>(
        self,
        layer: BulkheadLayer<R, M>,
    ) -> ServiceBuilder<Stack<BulkheadLayer<R, M>, L>> {
        self.layer(layer)
    }

    fn retry<C, Q>(self, layer: RetryLayer<C, Q>) -> ServiceBuilder<Stack<RetryLayer<C, Q>, L>> {
        self.layer(layer)
    }

    fn time_limit<T, R>(
        self,
        layer: TimeLimitLayer<T, R>,
    ) -> ServiceBuilder<Stack<TimeLimitLayer<T, R>, L>> {
        self.layer(layer)
    }

    fn idempotency<K, V, T, R, M>(
        self,
        layer: IdempotencyLayer<K, V, T, R, M>,
    ) -> ServiceBuilder<Stack<IdempotencyLayer<K, V, T, R, M>, L>> {
        self.layer(layer)
    }

    fn sidecar<C, T, Q, R>(
        self,
        layer: SidecarLayer<C, T, Q, R>,
    ) -> ServiceBuilder<Stack<SidecarLayer<C, T, Q, R>, L>> {
        self.layer(layer)
    }
}
