use std::sync::Arc;
use std::time::Duration;

use crate::vocabulary::clock::Clock;
use crate::vocabulary::name::Name;
use crate::vocabulary::observe::{Event, Observer};
use crate::vocabulary::setters::setters;
use crate::{circuit_breaker, rate_limit, retry, time_limit};

/// The configuration of a sidecar and its parts. All parts share its name, clock and observer.
///
/// Setters take the configuration by value. The constructor of the layer checks it.
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
    /// Creates a configuration with the defaults.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Sets the limiter of incoming requests. Default: no limiter, because the right limit depends
        /// on the callers.
        rate_limit(config: rate_limit::Config) => Some(config);

        /// Sets the circuit breaker. Default: 5 exhausted requests in a row open the circuit for 30
        /// seconds, and 2 successes close it. One success alone may be chance.
        circuit_breaker(config: circuit_breaker::Config);

        /// Sets how long one attempt may take. Default: 5 seconds. Longer than zero, at most 365 days.
        time_limit(limit: Duration);

        /// Sets the retry. Default: 4 attempts, with doubling waits from 100 ms and full jitter.
        retry(config: retry::Config);

        /// Sets the name in errors, events, logs and metrics. Default: no name in errors, and the name
        /// of the pattern elsewhere.
        name(name: impl Into<Name>) => name.into();

        /// Sets the clock of all parts. Default: tokio's.
        clock(clock: Clock);

        /// Sets an observer of the events of all parts. Default: none. `tracing` receives every event
        /// in any case.
        observer(observer: impl Observer + 'static) => Some(Arc::new(observer));
    }

    pub(super) fn time_limit_config(&self) -> time_limit::Config {
        time_limit::Config::new(self.time_limit)
    }
}

/// Sets the sidecar's name, clock and observer on a part.
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

/// An observer that several parts share.
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
