//! The part that every configuration has in common, and its setters.

use std::fmt;
use std::sync::Arc;

use super::observer::Observer;
use crate::vocabulary::clock::Clock;
#[cfg(feature = "metrics")]
use crate::vocabulary::metric::Keys;
use crate::vocabulary::name::Name;

/// What every configuration carries: the name, the clock and who listens.
#[derive(Clone, Default)]
pub(crate) struct Common {
    pub(crate) name: Name,
    pub(crate) clock: Clock,
    pub(crate) observer: Option<Arc<dyn Observer>>,
    pub(crate) count_calls: bool,
    #[cfg(feature = "metrics")]
    pub(crate) keys: Keys,
}

impl fmt::Debug for Common {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Common").field("name", &self.name).finish_non_exhaustive()
    }
}

/// The by-value setters that every `Config` shares.
macro_rules! common_setters {
    () => {
        /// The name in errors, events and metrics. Defaults to none.
        pub fn name(mut self, name: impl Into<$crate::Name>) -> Self {
            self.common.name = name.into();
            self
        }

        /// The clock. Defaults to tokio's.
        pub fn clock(mut self, clock: $crate::Clock) -> Self {
            self.common.clock = clock;
            self
        }

        /// Who else hears the events. Defaults to nobody; `tracing` always does.
        pub fn observer(mut self, observer: impl $crate::Observer + 'static) -> Self {
            self.common.observer = Some(std::sync::Arc::new(observer));
            self
        }

        /// Whether calls that pass are counted too. Defaults to no: it would be the only write on the
        /// healthy path. Refusals, failures and transitions are always counted.
        pub fn count_calls(mut self, count: bool) -> Self {
            self.common.count_calls = count;
            self
        }
    };
}
pub(crate) use common_setters;
