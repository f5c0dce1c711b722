use std::time::Duration;

use crate::time_limit;
use crate::vocabulary::invalid_config::{InvalidConfig, check_duration};
use crate::vocabulary::observe::{Common, common_setters};

/// The configuration of an aggregate: time limit, name, clock, observer and counting.
///
/// Setters take the configuration by value. [`Builder::build`](super::Builder::build) checks it.
#[derive(Clone, Debug)]
#[must_use]
pub struct Config {
    within: Duration,
    shared_limit: Option<time_limit::Handle>,
    pub(super) common: Common,
}

impl Default for Config {
    fn default() -> Self {
        Self { within: Duration::from_secs(2), shared_limit: None, common: Common::default() }
    }
}

impl Config {
    /// Creates a configuration with the defaults: a limit of 2 seconds.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how long a call may take, counted from `call`. Default: 2 seconds, the default of KrakenD, because a page
    /// whose reader waits longer is seldom read. Longer than zero, at most 365 days. The deadline of the request ends
    /// the call earlier.
    pub fn within(mut self, limit: Duration) -> Self {
        self.within = limit;
        self.shared_limit = None;
        self
    }

    /// Sets the limit to the limit of `handle`, which may change while calls run, for example the time limit of a
    /// registry. A call that ends with a timeout counts there. A call that answers at the limit without its open
    /// optional parts does not: it counts as [`partial`](super::Stats::partial).
    pub fn time_limit(mut self, handle: time_limit::Handle) -> Self {
        self.shared_limit = Some(handle);
        self
    }

    common_setters!();

    pub(super) fn limit(&self) -> Result<time_limit::Handle, InvalidConfig> {
        if let Some(handle) = &self.shared_limit {
            return Ok(handle.clone());
        }
        check_duration("within", self.within)?;
        let mut config = time_limit::Config::new(self.within);
        config = config.name(self.common.name).clock(self.common.clock.clone());
        if let Some(observer) = self.common.observer.clone() {
            config = config.observer(move |name: crate::Name, event: &crate::Event| {
                observer.on_event(name, event);
            });
        }
        Ok(config.build()?.handle())
    }
}
