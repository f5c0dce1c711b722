use std::sync::Arc;
use std::time::Duration;

use crate::vocabulary::clock::Clock;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::{Event, Observer};
use crate::{circuit_breaker, rate_limit, retry, time_limit};

/// The parts of a sidecar. Name, clock and observer are set here once, for all of them.
///
/// Built with by-value setters; checked when a layer is made of it.
#[derive(Clone)]
#[must_use]
pub struct Config {
    pub(super) rate_limit: Option<rate_limit::Config>,
    pub(super) circuit_breaker: circuit_breaker::Config,
    pub(super) time_limit: Duration,
    pub(super) retry: retry::Config,
    pub(super) name: Name,
    pub(super) clock: Clock,
    pub(super) observer: Option<Arc<dyn Observer>>,
}

impl Default for Config {
    fn default() -> Self {
        let backoff = retry::Backoff::exponential(Duration::from_millis(100));
        Self {
            rate_limit: None,
            circuit_breaker: circuit_breaker::Config::new().successes_to_close(2),
            time_limit: Duration::from_secs(5),
            retry: retry::Config::new().attempts(4).backoff(backoff),
            name: Name::default(),
            clock: Clock::default(),
            observer: None,
        }
    }
}

impl Config {
    /// Returns the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Limits the requests that come in. Defaults to no limit: the right one depends on the callers.
    pub fn rate_limit(mut self, config: rate_limit::Config) -> Self {
        self.rate_limit = Some(config);
        self
    }

    /// Sets when to stop calling. Defaults to 5 exhausted requests in a row, open for 30 seconds,
    /// closed after 2 successes: one answer of a service that comes back can be luck.
    pub fn circuit_breaker(mut self, config: circuit_breaker::Config) -> Self {
        self.circuit_breaker = config;
        self
    }

    /// Sets how long one attempt may take. Defaults to 5 seconds.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// How often to attempt. Defaults to 4 attempts, waiting from 100 ms, doubling, with full jitter.
    pub fn retry(mut self, config: retry::Config) -> Self {
        self.retry = config;
        self
    }

    /// Sets the name in errors, events and metrics. Defaults to none.
    pub fn name(mut self, name: impl Into<Name>) -> Self {
        self.name = name.into();
        self
    }

    /// Sets the clock. Defaults to tokio's.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Who else hears the events of all parts. Defaults to nobody; `tracing` always does.
    pub fn observer(mut self, observer: impl Observer + 'static) -> Self {
        self.observer = Some(Arc::new(observer));
        self
    }

    pub(super) fn time_limit_config(&self) -> time_limit::Config {
        time_limit::Config::new(self.time_limit)
    }
}

/// Sets on a part what the sidecar has for all of them.
macro_rules! part {
    ($sidecar:expr, $config:expr) => {{
        let config = $config.name($sidecar.name).clock($sidecar.clock.clone());
        match &$sidecar.observer {
            Some(observer) => config.observer($crate::sidecar::config::Forward(observer.clone())),
            None => config,
        }
    }};
}
pub(super) use part;

/// One observer for several parts.
pub(super) struct Forward(pub(super) Arc<dyn Observer>);

impl Observer for Forward {
    fn on_event(&self, layer: Name, event: &Event) {
        self.0.on_event(layer, event);
    }
}

impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("name", &self.name).finish_non_exhaustive()
    }
}
