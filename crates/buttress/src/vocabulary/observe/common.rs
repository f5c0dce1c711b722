//! The settings that every configuration shares, and their setters.

use std::fmt;
use std::sync::Arc;

use super::observer::Observer;
use super::simulated::{self, check_clock};
use crate::vocabulary::clock::Clock;
#[cfg(feature = "metrics")]
use crate::vocabulary::event_counters::Keys;
use crate::vocabulary::invalid_config::InvalidConfig;
use crate::vocabulary::name::Name;
use crate::vocabulary::pattern::Pattern;

/// The name, the clock and the observer of a configuration.
#[derive(Clone, Default)]
pub struct Common {
    pub(crate) name: Name,
    pub(crate) clock: Clock,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) count_calls: bool,
    /// `None` until a layer is made.
    pub(crate) pattern: Option<Pattern>,
    #[cfg(feature = "metrics")]
    pub(crate) keys: Keys,
    /// `true` for a layer with a state per key.
    #[cfg(feature = "metrics")]
    pub(crate) keyed: bool,
}

impl Common {
    /// Returns a copy for a layer of `pattern`, and registers its counters. In a simulation, the layer gets an observer
    /// if it has none, and the run refuses another clock than its own.
    pub(crate) fn of(&self, pattern: Pattern) -> Self {
        self.made(pattern, false)
    }

    /// Returns a copy for a layer of `pattern` with a state per key, and registers its counters.
    pub(crate) fn of_keys(&self, pattern: Pattern) -> Self {
        self.made(pattern, true)
    }

    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "only counters need it"))]
    fn made(&self, pattern: Pattern, keyed: bool) -> Self {
        let mut common = Self {
            pattern: Some(pattern),
            #[cfg(feature = "metrics")]
            keyed,
            ..self.clone()
        };
        if pattern.reads_time() {
            check_clock(common.layer().as_str(), &common.clock);
        }
        common.observer = common.observer.or_else(simulated::observer);
        #[cfg(feature = "metrics")]
        common.register();
        common
    }

    /// Adds the name of the layer to an error of its configuration.
    pub(crate) fn named<T>(&self, checked: Result<T, InvalidConfig>) -> Result<T, InvalidConfig> {
        checked.map_err(|error| error.of_layer(self.name.as_str()))
    }

    /// Returns the name in logs, events and metrics. A layer without a name uses the name of its
    /// pattern.
    pub(crate) fn layer(&self) -> Name {
        match self.pattern {
            Some(pattern) if self.name.as_str().is_empty() => Name::from(pattern.as_str()),
            _ => self.name,
        }
    }

    /// Registers the counters that the layer can raise with the recorder that is installed now.
    #[cfg(feature = "metrics")]
    pub(crate) fn register(&self) {
        if let Some(pattern) = self.pattern {
            self.keys.register(self.layer(), pattern, self.keyed);
        }
    }
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The by-value setters that every `Config` shares.
macro_rules! common_setters {
    () => {
        $crate::__setters! {
            /// Sets the name in errors, events, logs and metrics. Default: no name in errors, and the name of the
            /// pattern elsewhere.
            name(name: impl Into<$crate::Name>) sets common.name => name.into();

            /// Sets the clock. Default: tokio's.
            clock(clock: $crate::Clock) sets common.clock;

            /// Sets an observer of the events. Default: none. `tracing` receives every event in any
            /// case.
            observer(observer: impl $crate::Observer + 'static)
                sets common.observer => Some(std::sync::Arc::new(observer));

            /// Sets whether calls that pass are counted too. Default: off, because the count would be
            /// the only write for a healthy call. Refusals, failures and transitions are always
            /// counted.
            count_calls(count: bool) sets common.count_calls;
        }
    };
}
pub(crate) use common_setters;
