use std::fmt;
use std::time::Duration;

use tower::Layer;

use super::config::Config;
use super::handle::Handle;
use super::limit::Fixed;
use super::service::TimeLimit;
use super::shared::Shared;
use crate::machinery::own::{Counted, Forever, Held, Leaked, Own};
use crate::vocabulary::invalid_config::{InvalidConfig, LONGEST};
use crate::vocabulary::reject::AsError;

/// Layer that cancels calls that run longer than their limit. The [module](super) explains the
/// pattern.
#[must_use]
pub struct TimeLimitLayer<L = Fixed, R = AsError, O: Own = Counted> {
    shared: O::Of<Shared>,
    limit: L,
    reject: R,
}

impl Config {
    /// Builds a time limit with its own counters. Short for [`TimeLimitLayer::new`].
    ///
    /// # Errors
    /// The errors of [`TimeLimitLayer::new`]: an error names the first field that is out of its
    /// bounds.
    pub fn build(self) -> Result<TimeLimitLayer, InvalidConfig> {
        TimeLimitLayer::new(self)
    }
}

impl TimeLimitLayer {
    /// Creates a time limit with its own counters.
    ///
    /// # Errors
    /// A limit of zero, or of more than 365 days.
    pub fn new(config: Config) -> Result<Self, InvalidConfig> {
        Ok(Self { shared: Shared::new(&config)?, limit: Fixed, reject: AsError })
    }

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
        let config = Config::new(limit.min(LONGEST));
        Self { shared: Shared::unchecked(&config), limit: Fixed, reject: AsError }
    }

    /// Creates another layer over the limit and counters of an existing time limit.
    pub fn from_handle(handle: &Handle) -> Self {
        Self { shared: handle.shared.clone(), limit: Fixed, reject: AsError }
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

impl<L, R> TimeLimitLayer<L, R> {
    /// Keeps the layer's state until the process ends. Use it for layers that are built once.
    ///
    /// The services of a leaked layer count no references. A call, and a clone of the service, then
    /// write no cache line that all threads share.
    pub fn leak(self) -> TimeLimitLayer<L, R, Leaked> {
        let Self { shared, limit, reject } = self;
        TimeLimitLayer { shared: Forever::new(shared), limit, reject }
    }
}

impl<L, R, O: Own> TimeLimitLayer<L, R, O> {
    /// Sets how timeouts are returned. Default: as errors, through [`AsError`].
    pub fn reject<T>(self, reject: T) -> TimeLimitLayer<L, T, O> {
        TimeLimitLayer { shared: self.shared, limit: self.limit, reject }
    }

    /// Returns the handle of the shared state, for operators.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { shared: self.shared.counted().clone() }
    }
}

impl<S, L: Clone, R: Clone, O: Own> Layer<S> for TimeLimitLayer<L, R, O> {
    type Service = TimeLimit<S, L, R, O>;

    fn layer(&self, inner: S) -> Self::Service {
        TimeLimit::new(inner, self.shared.clone(), self.limit.clone(), self.reject.clone())
    }
}

impl<L: Clone, R: Clone, O: Own> Clone for TimeLimitLayer<L, R, O> {
    fn clone(&self) -> Self {
        let (limit, reject) = (self.limit.clone(), self.reject.clone());
        Self { shared: self.shared.clone(), limit, reject }
    }
}

impl<L, R, O: Own> fmt::Debug for TimeLimitLayer<L, R, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeLimitLayer").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
