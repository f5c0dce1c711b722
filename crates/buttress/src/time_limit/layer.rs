use std::time::Duration;

use tower::Layer;

use super::config::Config;
use super::handle::Handle;
use super::limit::Fixed;
use super::service::TimeLimit;
use super::shared::Shared;
use crate::machinery::own::{Counted, Leaked, Own, constructors, layer_over, leak_of};
use crate::vocabulary::invalid_config::LONGEST;
use crate::vocabulary::reject::AsError;

layer_over! {
    /// A layer that cancels calls that run longer than their limit. The [module](super) explains the
    /// pattern.
    pub struct TimeLimitLayer<L = Fixed, R = AsError, O: Own = Counted> { limit: L, reject: R }
}

constructors! {
    TimeLimitLayer { limit: Fixed, reject: AsError },
    "a time limit with its own counters",
    /// A limit of zero, or of more than 365 days.
}

impl TimeLimitLayer {
    /// Creates a layer with the limit `limit` for each call, and the defaults of [`Config`].
    ///
    /// With a `limit` of zero, only an answer that is ready at the first poll passes. A `limit`
    /// above 365 days counts as 365 days.
    ///
    /// ```
    /// # use std::time::Duration;
    /// use buttress::time_limit::TimeLimitLayer;
    /// use tower::{BoxError, ServiceBuilder};
    /// let service = ServiceBuilder::new()
    ///     .layer(TimeLimitLayer::after(Duration::from_millis(500)))
    ///     .service_fn(async |item: u32| Ok::<u32, BoxError>(item * 100));
    /// # let _ = service;
    /// ```
    pub fn after(limit: Duration) -> Self {
        Self::over(Shared::unchecked(&Config::new(limit.min(LONGEST))))
    }
}

impl<R, O: Own> TimeLimitLayer<Fixed, R, O> {
    /// Sets the limit of each request to the result of `limit`. `None` means the configured limit.
    pub fn per_request<Req, F>(self, limit: F) -> TimeLimitLayer<F, R, O>
    where
        F: Fn(&Req) -> Option<Duration>,
    {
        TimeLimitLayer { shared: self.shared, limit, reject: self.reject }
    }
}

leak_of! {
    <L, R> TimeLimitLayer { limit, reject }:
    TimeLimitLayer<L, R> => TimeLimitLayer<L, R, Leaked>
}

impl<L, R, O: Own> TimeLimitLayer<L, R, O> {
    /// Sets how timeouts are returned. Default: as errors, through [`AsError`].
    pub fn reject<T>(self, reject: T) -> TimeLimitLayer<L, T, O> {
        TimeLimitLayer { shared: self.shared, limit: self.limit, reject }
    }
}

impl<S, L: Clone, R: Clone, O: Own> Layer<S> for TimeLimitLayer<L, R, O> {
    type Service = TimeLimit<S, L, R, O>;

    fn layer(&self, inner: S) -> Self::Service {
        TimeLimit::new(inner, self.shared.clone(), self.limit.clone(), self.reject.clone())
    }
}
